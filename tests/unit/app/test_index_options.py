"""Package indexes that an app's files name. bake never drops one that it does not know."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import write

from bake.app import index_options
from bake.errors import RequirementError

DEFAULT = index_options.default_index()
HOST = urlsplit(DEFAULT).netloc


def test_uv_states_its_default_index() -> None:
    assert urlsplit(DEFAULT).scheme == "https" and urlsplit(DEFAULT).path.strip("/") == "simple"


@pytest.mark.parametrize(
    "address",
    [DEFAULT, f"{DEFAULT}/", DEFAULT.replace("https", "http"), f"https://{HOST.partition('.')[0]}.python.org/simple/"],
)
def test_the_default_index_is_known_under_each_of_its_names(address: str) -> None:
    assert index_options.is_default(address)


@pytest.mark.parametrize(
    "address",
    [
        "https://packages.example/simple",
        f"https://{HOST}.example/simple",
        f"https://packages.example/{HOST}/simple",
        f"https://user@{HOST}/simple",
        f"https://{HOST}/other/simple",
        f"https://{HOST}:8443/simple",
        "file:///simple",
        "http://[bad/simple",
        "",
    ],
)
def test_another_index_is_not_taken_for_the_default_one(address: str) -> None:
    assert not index_options.is_default(address)


def test_an_unknown_index_is_refused_without_its_password() -> None:
    with pytest.raises(RequirementError) as caught:
        index_options.require_known("https://me:secret@packages.example/simple", "requirements.txt:1", "", [])
    assert "secret" not in caught.value.message and "packages.example" in caught.value.message
    assert "`index: …` in bake.yaml" in caught.value.hint


def test_the_index_of_the_recipe_is_used_alone() -> None:
    notes: list[str] = []
    index_options.require_known("https://packages.example/simple/", "x:1", "https://packages.example/simple", notes)
    assert notes == []
    index_options.require_known("https://other.example/simple", "x:1", "https://packages.example/simple", notes)
    assert notes == ["ignored: the package index https://other.example/simple (x:1); bake.yaml sets another `index`"]


def test_the_indexes_of_a_project_are_listed(tmp_path: Path) -> None:
    text = '[[tool.uv.index]]\nurl = "https://a.example"\n[[tool.poetry.source]]\nurl = "https://b.example"\n'
    write(tmp_path, {"pyproject.toml": text, "Pipfile": '[[source]]\nurl = "https://c.example"\n'})
    assert list(index_options.of_project(tmp_path)) == [
        ("pyproject.toml: [[tool.uv.index]]", "https://a.example"),
        ("pyproject.toml: [[tool.poetry.source]]", "https://b.example"),
        ("Pipfile: [[source]]", "https://c.example"),
    ]
