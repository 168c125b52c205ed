"""A recipe and `cloud-init/rootfs` to the files of a machine."""

from __future__ import annotations

from dataclasses import dataclass

from bake import places
from bake.errors import BakeError
from bake.target import MACHINE_PACKAGES, Target


@dataclass(frozen=True)
class File:
    """A file on the machine: absolute path, mode bits, content. Owned by root."""

    path: str
    mode: int
    content: bytes

    @property
    def text(self) -> str | None:
        """The content as text; None where it is none."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            return None


def files(target: Target) -> list[File]:
    """Every file of the machine but those of its app, in the order of their paths."""
    found = {}
    for root in (places.rootfs(), places.rootfs().with_name(f"rootfs.{target.name}")):
        for path in root.rglob("*") if root.is_dir() else ():
            if path.is_file() and "__pycache__" not in path.parts:
                where = "/" + str(path.relative_to(root))
                found[where] = File(where, 0o755 if path.stat().st_mode & 0o100 else 0o644, path.read_bytes())
    if not places.rootfs().is_dir():
        raise BakeError(f"{places.rootfs()} is empty", "This copy of bake is incomplete: install it again.")
    packages = "".join(f"{name}\n" for name in MACHINE_PACKAGES)
    found["/usr/lib/app/packages"] = File("/usr/lib/app/packages", 0o644, packages.encode())
    return [found[where] for where in sorted(found)]
