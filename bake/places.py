"""Where this project's own files, the cache and the outputs are."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def tree() -> Path:
    """The folder that holds `cloud-init/`, `packer/` and `tests/`: the checkout, or the wheel's copy."""
    package = Path(__file__).resolve().parent
    installed = package / "tree"
    return installed if installed.is_dir() else package.parent


def rootfs() -> Path:
    """What a document puts on a machine; mirrors `/`."""
    return tree() / "cloud-init" / "rootfs"


def base_rootfs() -> Path:
    """What only a disk of our own carries: boot loader, fstab, network; mirrors `/`."""
    return tree() / "cloud-init" / "base"


def release() -> Path:
    """What only some apps' releases carry; mirrors a release's `settings/`."""
    return tree() / "cloud-init" / "release"


def cache() -> Path:
    """Base disks, wheels, locks and finished images. `BAKE_CACHE` moves it."""
    named = os.environ.get("BAKE_CACHE")
    return Path(named).absolute() if named else Path(platformdirs.user_cache_dir("bake"))


def outputs(name: str) -> Path:
    """The folder in which an app's image appears, below the current one."""
    return Path.cwd() / "dist" / name
