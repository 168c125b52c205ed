"""Resolve requirements in an app's folder, for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.bundle import lock
from bake.bundle.lock import Lock, Requirements
from bake.config.debian import DEBIAN_13
from bake.config.recipe import Recipe
from bake.errors import BakeError
from bake.host.cache import Age


def resolve(folder: Path, requirements: str, refresh: bool = False, max_age_days: float = 7, **keys: object) -> Lock:
    (folder / "requirements.txt").write_text(requirements)
    recipe = Recipe.model_validate(keys)
    return lock.resolve(Requirements.read(folder, recipe, DEBIAN_13), Age(max_age_days, refresh))


def fails(kind: type[BakeError], folder: Path, requirements: str, **keys: object) -> BakeError:
    with pytest.raises(kind) as caught:
        resolve(folder, requirements, False, 7, **keys)
    return caught.value
