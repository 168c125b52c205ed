"""Pins of servers that are too old for the machine."""

from __future__ import annotations

import pytest

from bake.app import server_pins
from bake.app.requirement_line import Line


@pytest.mark.parametrize(
    ("text", "raised"),
    [
        ("uvicorn==0.21.1", "uvicorn>=0.22"),
        ("uvicorn[standard]==0.11.8", "uvicorn[standard]>=0.22"),
        ("uvicorn<0.22", "uvicorn>=0.22"),
        ("uvicorn<=0.21", "uvicorn>=0.22"),
        ("uvicorn~=0.17.0", "uvicorn>=0.22"),
        ("uvicorn==0.18.*", "uvicorn>=0.22"),
        ("uvicorn>=0.13,<0.16; python_version >= '3.7'", 'uvicorn>=0.22; python_version >= "3.7"'),
        ("uvicorn", None),
        ("uvicorn==0.22.0", None),
        ("uvicorn==0.30.1", None),
        ("uvicorn~=0.15", None),
        ("uvicorn<1", None),
        ("uvicorn<0.23,!=0.21.0", None),
        ("uvicorn>=0.12", None),
    ],
)
def test_a_pin_that_admits_only_older_releases_is_raised_and_noted(text: str, raised: str | None) -> None:
    line = Line(text, "requirements.txt:9", "uvicorn", hashes=frozenset({"0" * 64}))
    other, notes = Line("flask==0.1", "requirements.txt:1", "flask"), list[str]()
    result = server_pins.raised([other, line], "uvicorn>=0.22", notes)
    assert result[0] == other
    if raised is None:
        assert result[1] == line and notes == []
    else:
        assert (result[1].text, result[1].hashes) == (raised, frozenset())
        assert (
            notes[0].startswith("requirements: uvicorn>=0.22 instead of uvicorn") and "(requirements.txt:9)" in notes[0]
        )
