"""The proposal of `assets` for an app whose package.json has a build."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write

from bake.app import node_build, scaffold
from bake.app.detect import complete
from bake.config import loader
from bake.config.assets import Assets
from bake.config.recipe import Recipe

BUILD = '{"scripts": {"build": "vite build"}}'
APP = {"app.py": "from flask import Flask\napp = Flask(__name__)\n", "requirements.txt": "flask\n"}


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"package.json": BUILD}, "assets: {run: npm run build, folder: static/dist}"),
        ({"web/package.json": BUILD}, "assets: {source: web, run: npm run build, folder: web/dist}"),
        ({"package.json": "{}", "b/package.json": BUILD}, "assets: {source: b, run: npm run build, folder: b/dist}"),
        ({"package.json": '{"scripts": {"lint": "eslint"}}'}, ""),
        ({"package.json": "["}, ""),
        ({"package.json": "[]"}, ""),
        ({"package.json": "[" * 100_000}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_the_line_names_the_folder_of_package_json(app: Path, files: dict[str, str], line: str) -> None:
    assert node_build.proposal(write(app, files)) == line


def test_a_bake_without_the_key_prints_it(app: Path) -> None:
    write(app, {**APP, "package.json": BUILD})
    (note,) = [note for note in complete(app, Recipe()).notes if note.startswith("assets")]
    assert "`assets: {run: npm run build, folder: static/dist}`" in note
    assets = Assets(folder=("static/dist",), run="npm run build")
    assert not [note for note in complete(app, Recipe(assets=assets)).notes if note.startswith("assets")]


def test_flasks_static_folder_may_be_one_that_the_build_makes(app: Path) -> None:
    write(app, APP)
    assets = Assets(folder=("static/dist",), run="npm run build")
    assert complete(app, Recipe(assets=assets)).recipe.static == {"/static": "static"}
    assert complete(app, Recipe()).recipe.static == {}


def test_init_writes_the_key_as_a_comment(app: Path) -> None:
    write(app, {**APP, "package.json": BUILD})
    notes: list[str] = []
    scaffold.write(app, notes)
    assert "package.json has a build: check `assets`" in notes
    text = (app / "bake.yaml").read_text()
    (app / "bake.yaml").write_text(text.replace("# assets:", "assets:"))
    assert loader.read(app).assets == Assets(folder=("static/dist",), run="npm run build")
