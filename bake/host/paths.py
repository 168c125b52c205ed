"""Return the paths of the project's own files, of the cache and of the outputs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


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
    """Return the cache of base disks, wheels, locks and finished images; `BAKE_CACHE` overrides the default path."""
    override = os.environ.get("BAKE_CACHE")
    return Path(override).absolute() if override else Path(platformdirs.user_cache_dir("bake"))


def outputs(name: str) -> Path:
    """Return the output folder of an app, `dist/NAME` in the current folder."""
    return Path.cwd() / "dist" / name
