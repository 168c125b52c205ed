"""Ignore files: which of them has the word on a path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bake.app import ignore
from bake.errors import AppFolderError
from bake.host import programs


def rules(folder: Path, name: str, text: str) -> ignore.Rules:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return ignore.read(folder, (folder / name).parent, [], ())[0]


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
    (tmp_path / ".bakeignore").symlink_to("/etc/hostname")
    with pytest.raises(AppFolderError, match=r"\.bakeignore cannot be read"):
        ignore.read(tmp_path, tmp_path, [], ())


@pytest.mark.parametrize("name", [".gitignore", ".bakeignore"])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (".env.local\r\n".encode("utf-16"), 1),
        (".env.local\r\n".encode("utf-16-be"), 1),
        # PowerShell's `>>` appends UTF-16 to a file in UTF-8.
        (b"*.log\n*.tmp\n" + "notes\r\n".encode("utf-16-le"), 3),
    ],
    ids=["little", "big", "appended"],
)
def test_an_ignore_file_in_utf_16_is_refused(tmp_path: Path, name: str, content: bytes, line: int) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppFolderError) as caught:
        ignore.read(tmp_path, tmp_path, [], ())
    assert caught.value.message == f"{tmp_path / name}: line {line} is not UTF-8 text, so its patterns have no effect"
    assert caught.value.hint == "Save it as UTF-8. PowerShell saves UTF-16 by default."


def test_a_comment_in_another_encoding_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_bytes("# f\xfcr Windows\n*.log\n".encode("latin-1"))
    (one,) = ignore.read(tmp_path, tmp_path, [], ())
    assert one.ignores("a.log")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("a*" * 8 + "b", "a" * 255),
        ("*a" * 60 + "b", "/".join(["a" * 255] * 15)),
        ("**/a/" * 20 + "b", "a/" * 2000 + "c"),
        ("**/*a*b/" * 9 + "**/x", "ab/" * 1300 + "d"),
        ("**/" * 100 + "x", "a/" * 2000),
    ],
)
def test_patterns_with_many_asterisks_take_no_time(tmp_path: Path, pattern: str, name: str) -> None:
    # pathspec's own expressions take hours or years, so a child compares, which can be ended.
    code = "import sys; from pathlib import Path; from bake.app import ignore; path = Path(sys.argv[1])\n"
    code += "[rules] = ignore.read(path, path, [], ()); print(rules.ignores(sys.argv[2]), rules.ignores('b'))"
    (tmp_path / ".gitignore").write_text(f"{pattern}\nb\n")
    done = programs.run([sys.executable, "-c", code, tmp_path, name], timeout=20)
    assert done.stdout == "None True\n"


@pytest.mark.parametrize("line", ["!", "[z-a]", "tmp\\", "\\"])
def test_a_pattern_that_git_ignores_is_ignored(tmp_path: Path, line: str) -> None:
    one = rules(tmp_path, ".gitignore", f"{line}\n*.log\n")
    assert one.ignores("a.log") and one.ignores("a.py") is None


@pytest.mark.parametrize("text", ["".join(f"a{i}*b*c\n" for i in range(5000)), "a*" * 50_000, "a" * (2**17 + 1)])
def test_an_ignore_file_with_too_many_patterns_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / ".gitignore").write_text(text)
    with pytest.raises(AppFolderError, match=r"\.gitignore has too many patterns"):
        ignore.read(tmp_path, tmp_path, [], ())


def test_a_thousand_patterns_are_read(tmp_path: Path) -> None:
    lines = [f"folder-{number}/**/*.log" for number in range(1000)]
    one = rules(tmp_path, ".gitignore", "\n".join(lines))
    assert one.ignores("folder-999/a/b.log") and one.ignores("folder-1000/a/b.log") is None
