"""Collect the files of a machine from `cloud-init/rootfs`."""

from __future__ import annotations

from dataclasses import dataclass

from bake.config import contract
from bake.config.debian import MACHINE_PACKAGES, Target
from bake.errors import BakeError
from bake.host import paths


@dataclass(frozen=True)
class File:
    """A file on the machine: absolute path, mode bits, content. Owned by root."""

    path: str
    mode: int
    content: bytes

    @property
    def text(self) -> str | None:
        """Return the content as text, or None if it is not UTF-8."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            return None


def files(target: Target) -> list[File]:
    """Return all files of a machine, except those of its app, sorted by path."""
    by_path = {}
    for root in (paths.rootfs(), paths.rootfs().with_name(f"rootfs.{target.name}")):
        for source in root.rglob("*") if root.is_dir() else ():
            if source.is_file() and "__pycache__" not in source.parts:
                path = "/" + str(source.relative_to(root))
                by_path[path] = File(path, 0o755 if source.stat().st_mode & 0o100 else 0o644, source.read_bytes())
    if not paths.rootfs().is_dir():
        raise BakeError(f"{paths.rootfs()} is empty", "This installation of bake is incomplete. Install it again.")
    packages = "".join(f"{name}\n" for name in MACHINE_PACKAGES)
    by_path[contract.PACKAGES] = File(contract.PACKAGES, 0o644, packages.encode())
    return [by_path[path] for path in sorted(by_path)]
