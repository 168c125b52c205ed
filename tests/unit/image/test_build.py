"""The parts of a build that need no machine: the log of a bake that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.document import cloud_config
from bake.errors import AppStartError, SpaceError
from bake.host import files
from bake.image import build

SETTINGS = cloud_config.CheckSettings({"SECRET_KEY": "hunter2!"})


def fail(path: Path, log: str) -> AppStartError:
    error = AppStartError("The app does not start", "a way out", "its key is hunter2!")
    error.log = log
    with pytest.raises(AppStartError) as caught, build.keeping_log(path, SETTINGS):
        raise error
    assert caught.value is error
    return error


def test_the_log_of_a_failure_is_kept_without_stand_ins_and_escapes(tmp_path: Path) -> None:
    path = build.log_of(tmp_path / "shop" / "shop.qcow2")
    error = fail(path, "first line\nkey=hunter2!\n\x1b[31mlast line")
    assert path == tmp_path / "shop" / "shop.log"
    assert path.read_text() == "first line\nkey=[SECRET_KEY]\nlast line\n"
    assert error.details == f"its key is [SECRET_KEY]\n--- complete log: {path}"
    assert (error.message, error.hint) == ("The app does not start", "a way out")


def test_an_error_without_a_log_leaves_no_file(tmp_path: Path) -> None:
    error = fail(tmp_path / "shop.log", "")
    assert list(tmp_path.iterdir()) == [] and error.details == "its key is [SECRET_KEY]"


def test_a_log_that_cannot_be_written_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(final: Path, text: str) -> None:
        raise SpaceError("full")

    monkeypatch.setattr(files, "write", full)
    assert "whole log" not in fail(tmp_path / "shop.log", "a line").details
