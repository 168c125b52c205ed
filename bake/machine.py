"""A recipe and `cloud-init/rootfs` to the files of a machine."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bake import places
from bake.errors import BakeError
from bake.target import MACHINE_PACKAGES, Target

#: Debian's name for an architecture to the kernel's.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class File:
    """A text file on the machine: absolute path, mode bits, content. Owned by root."""

    path: str
    mode: int
    text: str


def source(target: Target, bundle_digest: str) -> File:
    """The source stanza: which release of the app, for which release of Debian."""
    stanza = {"release": target.name, "machine": MACHINES[target.arch], "bundle": bundle_digest}
    return File("/etc/app/source.json", 0o644, json.dumps(stanza, indent=2) + "\n")


def files(target: Target) -> list[File]:
    """Every file of the machine but the source stanza, in the order of their paths."""
    found = {}
    for root in (places.rootfs(), places.rootfs().with_name(f"rootfs.{target.name}")):
        for path in root.rglob("*") if root.is_dir() else ():
            if path.is_file() and "__pycache__" not in path.parts:
                where = "/" + str(path.relative_to(root))
                found[where] = File(where, 0o755 if path.stat().st_mode & 0o100 else 0o644, path.read_text())
    if not places.rootfs().is_dir():
        raise BakeError(f"{places.rootfs()} is empty", "This copy of bake is incomplete: install it again.")
    packages = "".join(f"{name}\n" for name in MACHINE_PACKAGES)
    found["/usr/lib/app/packages"] = File("/usr/lib/app/packages", 0o644, packages)
    return [found[where] for where in sorted(found)]
