"""The manifest of a base disk: written, read back, and read as older versions of bake wrote it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bake.disk.base_manifest import FILE_NAME, BaseManifest
from bake.errors import ProgramError


def test_a_manifest_reads_back(tmp_path: Path) -> None:
    assert BaseManifest.read(tmp_path) is None
    now = BaseManifest.now("debian-13")
    made = replace(now, packages={"nginx": "1.26"}, security_url="http://archive.example/x", security_index="ab")
    assert abs(made.made - time.time()) < 60 and made.date.count("-") == 2
    (tmp_path / FILE_NAME).write_text(made.to_json())
    assert BaseManifest.read(tmp_path) == made


def test_a_manifest_without_a_version_is_an_older_one() -> None:
    text = '{\n "made": 17.5,\n "date": "2026-01-02",\n "release": "debian-12"\n}'
    assert BaseManifest.from_json(text) == BaseManifest(17.5, "2026-01-02", "debian-12")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"made": "x", "date": "", "release": ""}', '{"manifest_version": 9}']
)
def test_other_text_is_refused_by_the_file_s_name(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(ProgramError, match=FILE_NAME) as caught:
        BaseManifest.read(tmp_path)
    assert "bake again" in caught.value.hint
