"""Return the paths of the project's own files, of the cache and of the outputs."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import platformdirs

from bake.errors import PlaceError


def tree() -> Path:
    """Return the folder that holds `cloud-init/`, `packer/` and `tests/`: the checkout, or its copy in the wheel."""
    package = Path(__file__).resolve().parents[1]
    wheel_copy = package / "tree"
    return wheel_copy if wheel_copy.is_dir() else package.parent


def rootfs() -> Path:
    """Return the folder with the files of every machine. It mirrors `/`."""
    return tree() / "cloud-init" / "rootfs"


def base_disk_rootfs() -> Path:
    """Return the folder with the files that only base disks have: boot loader, fstab, network. It mirrors `/`."""
    return tree() / "cloud-init" / "base-disk" / "rootfs"


def builder() -> Path:
    """Return the folder with the scripts of builds in a builder root."""
    return tree() / "cloud-init" / "builder"


def features() -> Path:
    """Return the folder with the optional files of a release. It mirrors the release's `settings/`."""
    return tree() / "cloud-init" / "features"


def cache() -> Path:
    """Return the cache of base disks, wheels, locks and finished images; `BAKE_CACHE` overrides the default path.

    Only its owner can read it. Raises PlaceError for a folder of another user, who could change what bake uses.
    """
    override = os.environ.get("BAKE_CACHE")
    return _private(Path(override).absolute() if override else Path(platformdirs.user_cache_dir("bake")))


@functools.cache
def _private(folder: Path) -> Path:
    # If it cannot be made, the error comes from what is written to it.
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for status in (folder.lstat(), folder.stat()) if folder.exists() else ():
        if status.st_uid != os.geteuid():
            raise PlaceError(
                f"The cache {folder} belongs to another user (uid {status.st_uid}), who could change what bake uses",
                "Set BAKE_CACHE to a folder of your own. With sudo: `sudo -H`.",
            )
    if folder.is_dir() and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def outputs(name: str) -> Path:
    """Return the output folder of an app, `dist/NAME` in the current folder."""
    return Path.cwd() / "dist" / name
