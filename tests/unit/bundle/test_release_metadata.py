"""The metadata of an app that is not a wheel, and its commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import release_texts

from bake.bundle import release_files, release_metadata
from bake.config.recipe import Recipe
from bake.host.programs import run

PROJECT = '[project]\nname = "My.App"\nversion = "1.2"\n[project.scripts]\nserve = "app:main"\n'


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_the_app_s_own_commands_are_made(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = """
        [gui]
        w = shop:cli
        [console_scripts]
        shop = shop:cli.main [extra]
        ../x = shop:cli
        .. = shop:cli
        module = shop
        bad = ?
        none
        [other]
        y = shop:cli
    """
    write(app, "src/shop.egg-info/entry_points.txt", "\n".join(line.strip() for line in points.splitlines()))
    write(app, "src/shop.py", "class cli:\n    main = staticmethod(lambda: 3)\n")
    write(app, "vendored/x.egg-info/entry_points.txt", "[console_scripts]\nother = x:y\n")
    made = release_files.files(app, Recipe(), sorted(app.rglob("*")))
    assert [name for name in made if name.startswith("settings/bin/")] == ["settings/bin/shop"]
    command = made["settings/bin/shop"]
    (app / "shop").write_text(command.text)
    (app / "shop").chmod(command.mode)
    # As the units have it, the virtualenv's folder stands first.
    (app / "bin").mkdir()
    (app / "bin/python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{app}/bin{os.pathsep}{os.environ['PATH']}")
    done = run([app / "shop"], env={"PYTHONPATH": str(app / "src")}, check=False)
    assert done.status == 3, done.stderr


def test_a_project_s_commands_are_made_of_what_it_says(app: Path) -> None:
    write(app, "pyproject.toml", PROJECT)
    assert "from app import main\n" in release_texts(app)["settings/bin/serve"]
    # Of a packaged app's folder nothing is looked at.
    packaged = release_texts(app, app={"package": "x==1"}, wsgi="x:x")
    assert not [name for name in packaged if name.startswith(("source/", "settings/bin/"))]


def test_a_version_that_is_computed_stays_unknown(app: Path) -> None:
    write(app, "pyproject.toml", PROJECT.replace('version = "1.2"', 'dynamic = ["version"]'))
    known = release_metadata.distribution(app, [])
    assert "serve = app:main" in known["my_app-unknown.dist-info/entry_points.txt"]
    assert "\nVersion:" not in known["my_app-unknown.dist-info/METADATA"]
    for unknown in ("[project]\nname = 'x'\ndynamic = ['version']\n", "[tool.black]\n"):
        write(app, "pyproject.toml", unknown)
        assert release_metadata.distribution(app, []) == {}


def test_a_project_that_was_built_keeps_what_the_build_said(app: Path) -> None:
    write(app, "pyproject.toml", PROJECT)
    write(app, "x.egg-info/PKG-INFO", "")
    assert release_metadata.distribution(app, [app / "x.egg-info"]) == {}
    # One that .gitignore keeps out of the release says nothing there.
    assert "my_app-1.2.dist-info/METADATA" in release_metadata.distribution(app, [])
