"""A source: what an error and a note call it."""

from __future__ import annotations

import pytest

from bake.bundle.source import Source


@pytest.mark.parametrize(("version", "pin"), [("1.0", "a==1.0"), ("", "a @ https://code.example/a.zip")])
def test_a_source_without_a_version_has_its_address(version: str, pin: str) -> None:
    assert Source("a", version, "https://code.example/a.zip", "", "").pin == pin
