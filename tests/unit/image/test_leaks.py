"""Words of a bake on a disk: which are found, and which of a person's values stand there by themselves."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bake.errors import CheckError
from bake.image.leaks import find, private, require_none

SIZE = 64 << 20


def disk(path: Path, *texts: str) -> Path:
    """A raw disk of holes, with each text in a block of its own; the last ends the disk."""
    with path.open("wb") as stream:
        stream.truncate(SIZE)
        for number, text in enumerate(texts[:-1]):
            stream.seek(number * (4 << 20) + 123)
            stream.write(text.encode())
        if texts:
            stream.seek(SIZE - len(texts[-1].encode()))
            stream.write(texts[-1].encode())
    return path


def bundle(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def wheel(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def test_words_are_found_wherever_they_stand(tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", "one-canary", "two", "last-canary")
    assert find(raw, {"a": "one-canary", "b": "last-canary", "c": "nowhere"}) == {"a": 123, "b": SIZE - 11}


def test_a_planted_word_that_is_left_is_a_fault(tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", "x", "canary-1234")
    with pytest.raises(CheckError, match=rf"The image still contains the canary of the bake, at byte {SIZE - 11}"):
        require_none(raw, {"canary": "canary-1234"}, {}, [])
    require_none(raw, {"canary": "canary-5678"}, {}, [])


def test_what_the_app_shows_to_everyone_is_not_private() -> None:
    values = {
        "SITE_TITLE": "Green Garden Shop", "LOG_DIR": "logs-prod", "API_TOKEN": "shown-by-mistake", "MAIL": "a@b.c",
    }  # fmt: skip
    shown = '{"title": "Green Garden Shop: shown-by-mistake"} {"data": {"logs-prod": true}}'
    assert [*private(values, shown)] == ["API_TOKEN", "MAIL"]
    assert private(values, "") == values


@pytest.mark.parametrize("value", ["sk_test_4eC39HqLyjWD", "päßwörter"])
def test_a_value_of_check_env_that_is_left_is_a_fault(tmp_path: Path, value: str) -> None:
    raw = disk(tmp_path / "raw", value, "x")
    base = disk(tmp_path / "base.raw", "another")
    app = bundle(tmp_path / "bundle.tar", {"wheels/x.whl": wheel(text="nothing")})
    with pytest.raises(CheckError, match=r"value of check\.env's KEY"):
        require_none(raw, {}, {"value of check.env's KEY": value}, [app, base])


def test_a_value_that_the_image_was_made_with_is_none(tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", "production", "postgresql", "sqlite:///site.db")
    base = disk(tmp_path / "base.raw", "postgresql")
    app = bundle(
        tmp_path / "bundle.tar", {"source/config.py": b"sqlite:///site.db", "wheels/x.whl": wheel(a="production " * 99)}
    )
    for value in ("production", "postgresql", "sqlite:///site.db"):
        require_none(raw, {}, {"value": value}, [app, base])
    with pytest.raises(CheckError):
        require_none(raw, {}, {"value": "production"}, [base])


def test_a_value_that_is_too_short_to_tell_is_not_looked_for(tmp_path: Path) -> None:
    require_none(disk(tmp_path / "raw", "debug=1", "x"), {}, {"value": "debug=1"}, [])


def test_the_inputs_are_made_only_where_a_value_is_found(tmp_path: Path) -> None:
    def inputs() -> Iterator[Path]:
        raise AssertionError("a base disk was unpacked for nothing")
        yield

    require_none(disk(tmp_path / "raw", "x"), {}, {"value": "nowhere-at-all"}, inputs())
