"""Ignore files: which of them has the word on a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.app import ignore
from bake.errors import AppFolderError


def rules(folder: Path, name: str, text: str) -> ignore.Rules:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return ignore.read(folder, folder / name, ())


def test_the_innermost_file_that_mentions_a_path_decides(tmp_path: Path) -> None:
    inner, outer = rules(tmp_path, "a/.gitignore", "!kept.txt\n"), rules(tmp_path, ".gitignore", "*.txt\n")
    stack = [inner, outer]
    assert ignore.verdict(stack, ".gitignore", "a/kept.txt") == (False, "a/.gitignore")
    assert ignore.verdict(stack, ".gitignore", "a/other.txt") == (True, ".gitignore")
    assert ignore.verdict(stack, ".gitignore", "a/app.py") == (None, "")
    assert ignore.verdict(stack, ignore.BAKEIGNORE, "a/other.txt") == (None, "")


def test_names_are_seen_from_the_files_own_folder(tmp_path: Path) -> None:
    one = rules(tmp_path, "a/.bakeignore", "/only-here\n")
    assert one.ignores("a/only-here") and one.ignores("a/b/only-here") is None


def test_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".bakeignore").mkdir()
    with pytest.raises(AppFolderError, match=r"\.bakeignore cannot be read"):
        ignore.read(tmp_path, tmp_path / ".bakeignore", ())
