"""Files that others wrote: no device, no endless one, none of another folder, and nothing nested without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from bake.host import foreign_text

#: Ten lines that stand for a billion values.
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{chr(ord(name) - 1)}'] * 10)}]\n" for name in "bcdefghij"
)


def test_a_text_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfname")
    (tmp_path / "link.txt").symlink_to("a.txt")
    assert foreign_text.read(tmp_path / "a.txt") == foreign_text.read(tmp_path / "link.txt") == "name"
    with pytest.raises(FileNotFoundError):
        foreign_text.read(tmp_path / "missing")


def test_a_device_a_pipe_and_a_folder_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "zero", tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match="it is not a file"):
            foreign_text.read(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as stream:
        stream.truncate(foreign_text.LARGEST + 1)
    with pytest.raises(OSError, match="more than 32 MB"):
        foreign_text.read(tmp_path / "a")


def test_a_link_to_a_private_file_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    app = home / "repository/app"
    (home / "repository/.git").mkdir(parents=True)
    app.mkdir()
    (home / ".netrc").write_text("password")
    (home / "repository/shared").write_text("shared")
    for name, target in (("private", "../../.netrc"), ("shared", "../shared"), ("environment", "/proc/self/environ")):
        (app / name).symlink_to(target)
    assert foreign_text.read(app / "shared") == "shared"
    for name in ("private", "environment"):
        with pytest.raises(OSError, match="leads out of the app's folder"):
            foreign_text.read(app / name)


def test_an_app_reaches_neither_the_home_nor_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "work/a/b/c").mkdir(parents=True)
    assert foreign_text.reach(tmp_path / "work/a/b/c") == tmp_path / "work/a"
    assert foreign_text.reach(tmp_path / "work/a") == tmp_path / "work"
    assert foreign_text.reach(Path("/usr/bin")) == Path("/usr")


def test_deep_brackets_are_a_fault_of_the_text() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        foreign_text.from_json("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        foreign_text.from_toml("a = " + "[" * 5000)
    with pytest.raises(yaml.YAMLError, match="nested too deeply"):
        yaml.load("[" * 5000, foreign_text.YamlLoader)


def test_yaml_may_repeat_values_but_not_a_billion() -> None:
    assert yaml.load("a: &a [1]\nb: [*a, *a]\n", foreign_text.YamlLoader) == {"a": [1], "b": [[1], [1]]}
    with pytest.raises(yaml.YAMLError, match="more than 20 aliases"):
        yaml.load(BOMB, foreign_text.YamlLoader)
