"""Files in an app's folder, and the release that they make, for tests."""

from __future__ import annotations

from pathlib import Path

import conftest

from bake.bundle import release
from bake.bundle.lock import Lock
from bake.bundle.release import Release
from bake.config.recipe import Recipe

NO_LOCK = Lock("", "none")


def write(folder: Path, *names: str) -> None:
    conftest.write(folder, {name: f"this is {name}\n" for name in names})


def gather(folder: Path, recipe: Recipe | None = None) -> Release:
    return release.gather(folder, recipe or Recipe(), NO_LOCK, [])
