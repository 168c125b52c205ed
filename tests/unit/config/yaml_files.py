"""Write a `bake.yaml` and read it, for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.config import loader
from bake.config.recipe import Recipe
from bake.errors import RecipeError


def read(folder: Path, text: str) -> Recipe:
    (folder / "bake.yaml").write_text(text)
    return loader.read(folder)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(folder, text)
    assert str(folder / "bake.yaml") in caught.value.message
    return caught.value.details.splitlines()
