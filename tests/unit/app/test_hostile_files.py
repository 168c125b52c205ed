"""Files that are made to hang bake, to fill its memory or to end it with a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bake.app import requirements_files
from bake.bundle.app_source import AppSource
from bake.config.debian import DEBIAN_13
from bake.errors import BakeError, RequirementError
from bake.host.progress import Reporter

DEEP = "[" * 5000
BLANK_LINES, SPACES = "\n" * 60_000, " " * 60_000
#: Ten lines that stand for a billion values.
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{chr(ord(name) - 1)}'] * 10)}]\n" for name in "bcdefghij"
)


def read(folder: Path) -> None:
    """Read an app without its requirements, and then those."""
    app = AppSource.read_unresolved(folder, Reporter())
    requirements_files.requirement_lines(folder, app.recipe.requirements or (), DEBIAN_13)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "app.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".flaskenv", f"{BLANK_LINES}x"), ("uwsgi.ini", f"{BLANK_LINES}x"), ("Dockerfile", f"{BLANK_LINES}x"),
        ("Dockerfile", f"CMD {DEEP}"), ("render.yaml", BOMB), ("render.yaml", DEEP), ("fly.toml", f"a = {DEEP}"),
        ("fly.toml", f"a = {'9' * 5000}"), ("app.json", DEEP), ("package.json", DEEP * 20),
        ("Procfile", f"web: a{SPACES}\1"),
    ],
)  # fmt: skip
def test_files_that_only_help_to_find_the_app_are_no_obstacle(app: Path, name: str, text: str) -> None:
    (app / "requirements.txt").touch()
    (app / name).write_text(text)
    read(app)


@pytest.mark.parametrize("name", ["Procfile", "Dockerfile", "package.json", "runtime.txt", ".flaskenv", ".env.example"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_nor_are_pipes_and_devices(app: Path, name: str, make: Callable[[Path], None]) -> None:
    (app / "requirements.txt").touch()
    make(app / name)
    read(app)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bake.yaml", f"env: {DEEP}"), ("bake.yaml", "env:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 2000))),
        ("bake.yaml", BOMB), ("bake.yaml", f'wsgi: "a:{"-" * 20_000}a"'), ("bake.yaml", f'wsgi: "a:b{".a" * 20_000}"'),
        ("pyproject.toml", f"a = {DEEP}"), ("pyproject.toml", "project = 3"), ("pyproject.toml", "tool = 3"),
        ("pyproject.toml", "[project]\ndependencies = 5"),
        ("pyproject.toml", "[project]\nname = 'a'\ndependencies = [1]"),
        ("pyproject.toml", "[project]\nname = 3\ndependencies = []"), ("pyproject.toml", "tool = {poetry = 1}"),
        ("pyproject.toml", "[project]\ndependencies = []\n[tool]\nuv = 1"), ("pyproject.toml", f"a = {'9' * 6000}"),
        ("Pipfile.lock", DEEP), ("Pipfile.lock", '{"default": 5}'), ("Pipfile.lock", '{"default": {"a": 5}}'),
        ("pylock.toml", "packages = 1"), ("requirements.txt", f"a; {'(' * 5000}os_name=='x'{')' * 5000}"),
        ("requirements.txt", f"flask{SPACES}x"),
    ],
)  # fmt: skip
def test_other_files_end_with_an_error_for_people(app: Path, name: str, text: str) -> None:
    (app / name).write_text(text)
    with pytest.raises(BakeError) as caught:
        read(app)
    assert name in f"{caught.value.message}{caught.value.details}"


def test_files_that_include_each_other_are_read_once(app: Path) -> None:
    for number in range(30):
        (app / f"{number}.txt").write_text(f"-r {number + 1}.txt\n" * 2)
    (app / "30.txt").write_text("flask\n")
    assert [line.text for line in requirements_files.requirement_lines(app, "0.txt", DEBIAN_13)] == ["flask"]


@pytest.mark.parametrize(
    "line", ["-r /proc/self/environ", "-r ../../../../../../proc/self/environ", "-c links/environ"]
)
def test_no_error_shows_a_line_of_a_private_file(app: Path, line: str) -> None:
    (app / "links").symlink_to("/proc/self")
    (app / "requirements.txt").write_text(line)
    with pytest.raises(RequirementError, match="environ is outside of the app's folder"):
        read(app)


def test_nor_if_bake_yaml_names_it(app: Path) -> None:
    (app / "bake.yaml").write_text("requirements: ../../../../../../proc/self/environ\n")
    with pytest.raises(BakeError) as caught:
        read(app)
    assert "PATH" not in f"{caught.value.message}{caught.value.details}"
