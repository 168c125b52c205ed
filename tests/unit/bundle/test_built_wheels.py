"""Wheels that bake built are found by their inputs, and by the hash in a lock."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import EMPTY_WHEEL

from bake.bundle import built_wheels

pytestmark = pytest.mark.usefixtures("cache_folder")


def kept(folder: Path, name: str, key: str, content: bytes = EMPTY_WHEEL) -> built_wheels.BuiltWheel:
    (folder / name).write_bytes(content)
    return built_wheels.keep(folder / name, key, 5.0, {"libpq.so.5": "libpq5"})


def test_a_wheel_is_kept_by_its_inputs_and_by_its_hash(tmp_path: Path) -> None:
    wheel = kept(tmp_path, "a-1-cp313-cp313-linux_x86_64.whl", "key")
    assert wheel.path.read_bytes() == EMPTY_WHEEL and not (tmp_path / wheel.name).exists()
    assert built_wheels.find("key") == wheel
    assert built_wheels.of_hashes(["0" * 64, wheel.sha256]) == [wheel]
    assert built_wheels.find("other") is None


def test_two_builds_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    first = kept(tmp_path, "a-1-py3-none-any.whl", "one")
    second = kept(tmp_path, "a-1-py3-none-any.whl", "two", b"other")
    assert first.path.read_bytes() == EMPTY_WHEEL and second.path.read_bytes() == b"other"


def test_a_wheel_that_was_removed_is_not_found(tmp_path: Path) -> None:
    wheel = kept(tmp_path, "a-1-py3-none-any.whl", "key")
    wheel.path.unlink()
    assert built_wheels.find("key") is None


def test_a_wheel_with_machine_code_is_told_from_a_pure_one(tmp_path: Path) -> None:
    pure = kept(tmp_path, "a-1-py3-none-any.whl", "one")
    compiled = kept(tmp_path, "b-1-cp313-cp313-linux_x86_64.whl", "two", b"code")
    assert not built_wheels.any_compiled([pure.sha256])
    assert built_wheels.any_compiled([pure.sha256, compiled.sha256])
