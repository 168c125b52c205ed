"""A file of another tool with a wrong value is refused with the place of the value, and never with a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write

from bake.app.requirements_files import requirement_lines
from bake.config.debian import DEBIAN_13
from bake.errors import RequirementError

POETRY = '[tool.poetry.dependencies]\nsix = "*"\n'


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("pyproject.toml", "project = 3\n", "1: project: "),
        ("pyproject.toml", "[project]\ndependencies = 'six'\n", "2: project.dependencies: "),
        ("pyproject.toml", "[project]\ndependencies = [1]\n", "2: project.dependencies.0: "),
        ("pyproject.toml", "[project]\nrequires-python = 3\ndependencies = []\n", "2: project.requires-python: "),
        ("pyproject.toml", "[project]\nscripts = ['x']\n", "2: project.scripts: "),
        ("pyproject.toml", "[tool]\npoetry = 3\n", "2: tool.poetry: "),
        ("pyproject.toml", "[project]\ndependencies = ['six']\n[tool.uv]\nsources = 3\n", "4: tool.uv.sources: "),
        ("pyproject.toml", "[tool.poetry]\nsource = [1]\n", "2: tool.poetry.source.0: "),
        ("Pipfile", "packages = 3\n", "1: packages: "),
        ("Pipfile", "[packages]\nsix = 3\n", "2: packages.six: "),
        ("Pipfile", "[packages]\nsix = {git = 3}\n", "2: packages.six.git: "),
        ("Pipfile.lock", "[]", "1: the file: "),
        ("Pipfile.lock", '{"default": {"six": 3}}', "1: default.six: "),
        ("poetry.lock", "package = 'x'\n", "1: package: "),
        ("poetry.lock", "[[package]]\nname = 'six'\nversion = 'new'\n", "3: package.0.version: "),
        ("pdm.lock", "[[package]]\nversion = '1'\n", "1: package.0.name: "),
        ("pylock.toml", "[[packages]]\nversion = '1'\n", "1: packages.0.name: "),
        (
            "pylock.toml",
            "[[packages]]\nname = 'six'\nversion = '1'\nwheels = [{}]\n",
            "4: packages.0.wheels.0.hashes: ",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(tmp_path: Path, name: str, text: str, fault: str) -> None:
    write(tmp_path, {"pyproject.toml": POETRY, name: text})
    with pytest.raises(RequirementError) as caught:
        requirement_lines(tmp_path, name, DEBIAN_13)
    assert caught.value.message.startswith(f"{name}:{fault}")
    assert caught.value.hint


def test_all_wrong_values_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": "[project]\nname = 1\nversion = 2\n"})
    with pytest.raises(RequirementError) as caught:
        requirement_lines(tmp_path, "pyproject.toml", DEBIAN_13)
    assert caught.value.message.startswith("pyproject.toml:2: project.name: ")
    assert caught.value.details.startswith("pyproject.toml:3: project.version: ")


@pytest.mark.parametrize(
    "arguments",
    [
        "install_requires=5",
        "install_requires=['six'], extras_require={'a': 5}",
        "entry_points='[x'",
        "entry_points={'x': 5}",
    ],
)
def test_a_wrong_value_in_a_setup_py_counts_as_none(tmp_path: Path, arguments: str) -> None:
    write(tmp_path, {"setup.py": f"from setuptools import setup\nsetup(name='x', {arguments})\n"})
    assert {line.text for line in requirement_lines(tmp_path, "setup.py", DEBIAN_13)} <= {"six"}
