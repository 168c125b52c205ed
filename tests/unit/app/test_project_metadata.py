"""What a folder says of itself as a project, in each of the files that may say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.app import project_metadata
from bake.errors import RequirementError

SAID = {
    "pyproject.toml": """
[project]
name = "shop"
version = "1.2"
requires-python = ">=3.9"
dependencies = ["flask>=3"]
[project.scripts]
serve = "shop:main"
""",
    "setup.cfg": """
[metadata]
name = shop
version = 1.2
[options]
python_requires = >=3.9
install_requires =
    flask>=3  # why
[options.entry_points]
console_scripts =
    serve = shop:main
""",
    "setup.py": """
from setuptools import setup
requires = ["flask>=3"]
setup(name="shop", version="1.2", python_requires=">=3.9", install_requires=requires, long_description=open("x").read(),
      entry_points={"console_scripts": ["serve = shop:main"]})
""",
}


@pytest.mark.parametrize("name", SAID)
def test_a_project_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(SAID[name])
    found = project_metadata.find(tmp_path)
    assert found == project_metadata.read(tmp_path / name)
    assert (found.file, found.name, found.version, found.requires_python) == (name, "shop", "1.2", ">=3.9")
    assert found.dependencies == ("flask>=3",)
    assert found.entry_points == {"console_scripts": {"serve": "shop:main"}}
    line = next(number for number, text in enumerate(SAID[name].splitlines(), 1) if "flask>=3" in text)
    assert found.location("flask>=3") == f"{name}:{line}"


def test_entry_points_may_be_one_text(tmp_path: Path) -> None:
    text = (
        'import setuptools\nsetuptools.setup(name="x", entry_points="""\n  [paste.app_factory]\n  main = x:main\n""")\n'
    )
    (tmp_path / "setup.py").write_text(text)
    assert project_metadata.read(tmp_path / "setup.py").entry_points == {"paste.app_factory": {"main": "x:main"}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[project]\nname = 'x'\ndynamic = ['version', 'dependencies']\n"),
        ("setup.cfg", "[metadata]\nname = x\nversion = attr: x.__version__\n"),
        ("setup.py", "from setuptools import setup\nsetup(name='x', version=read(), install_requires=parse())\n"),
        ("setup.py", "print 'Python 2'\n"),
    ],
)
def test_what_a_build_would_compute_is_not_known(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = project_metadata.read(tmp_path / name)
    assert (found.version, found.dependencies) == (None, None)


@pytest.mark.parametrize(("more", "version"), [("", "0.0.0"), (", **read()", None)])
def test_setuptools_gives_a_version_to_what_says_none(tmp_path: Path, more: str, version: str | None) -> None:
    (tmp_path / "setup.py").write_text(f"from setuptools import setup\nsetup(name='x'{more})\n")
    assert project_metadata.read(tmp_path / "setup.py").version == version


@pytest.mark.parametrize(("name", "text"), [("pyproject.toml", "[x\n"), ("setup.cfg", "x\n")])
def test_a_broken_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RequirementError, match=name):
        project_metadata.read(tmp_path / name)


def test_no_project_is_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.black]\n")
    assert project_metadata.find(tmp_path) is None


def test_a_dependency_group_for_production_lists_the_requirements(tmp_path: Path) -> None:
    groups = 'base = ["flask"]\nmain = ["six", {include-group = "base"}, {include-group = "main"}]\ndev = ["pytest"]\n'
    (tmp_path / "pyproject.toml").write_text(f"[dependency-groups]\n{groups}")
    dependencies = project_metadata.read(tmp_path / "pyproject.toml").dependencies
    assert dependencies is not None and {*dependencies} == {"six", "flask"}
    (tmp_path / "pyproject.toml").write_text('[dependency-groups]\ndev = ["pytest"]\n')
    assert project_metadata.read(tmp_path / "pyproject.toml").dependencies is None


def test_a_dependency_of_poetry_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.poetry.dependencies]\npython = "^3.11"\nflask = "^3.0"\n')
    project = project_metadata.read(tmp_path / "pyproject.toml")
    assert (project.dependencies, project.requires_python) == (("flask>=3.0,<4",), ">=3.11,<4")
    assert project.location("flask>=3.0,<4") == "pyproject.toml:3"
