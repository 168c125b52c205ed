"""The lines of keys and packages in files of other tools."""

from __future__ import annotations

import json
import tomllib

import pytest

from bake.app import file_lines

POETRY_LOCK = """# package: a comment
[[package]]
name = "Six"
version = "1"

[package.dependencies]
flask = ">=1"

[[package]]
name = "flask"
version = "2"

[[package.files]]
file = "flask.whl"

[metadata]
version = "3"
"""
PIPFILE = """[[source]]
name = "pypi"

[packages]
six = "*"
"flask" = {version = "*", extras = ["async"]}
"""
PIPFILE_LOCK = json.dumps({"_meta": {}, "default": {"flask": {"version": "==1"}, "six": {"hashes": []}}}, indent=4)


@pytest.mark.parametrize(
    ("text", "keys", "line"),
    [
        (POETRY_LOCK, ("package", 0, "version"), 4),
        (POETRY_LOCK, ("package", 1, "version"), 11),
        (POETRY_LOCK, ("package", 1, "files", 0, "file"), 14),
        (POETRY_LOCK, ("metadata", "version"), 17),
        (PIPFILE, ("packages", "flask", "extras"), 6),
        (PIPFILE_LOCK, ("default", "six", "hashes"), 8),
        # A key that the text has otherwise: the line of the table.
        ('[project]\n"na\\u006de" = 1\n', ("project", "name"), 1),
        (POETRY_LOCK, (), 1),
    ],
)
def test_a_key_has_the_line_where_it_is_written(text: str, keys: tuple[str | int, ...], line: int) -> None:
    assert file_lines.of_key(text, keys) == line


@pytest.mark.parametrize(
    ("name", "text", "flask", "six"),
    [
        ("poetry.lock", POETRY_LOCK, 10, 3),
        ("Pipfile", PIPFILE, 6, 5),
        ("Pipfile.lock", PIPFILE_LOCK, 4, 7),
    ],
)
def test_a_package_has_the_line_of_its_entry(name: str, text: str, flask: int, six: int) -> None:
    assert tomllib.loads(text) if name != "Pipfile.lock" else json.loads(text)
    lines = file_lines.of_packages(text, name)
    assert (lines["flask"], lines["six"]) == (flask, six)
