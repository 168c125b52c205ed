"""The packages that serve an ASGI app."""

from __future__ import annotations

import pytest

from bake.app import asgi_server
from bake.app.requirement_line import Line


def line(text: str, constraint: bool = False) -> Line:
    return Line(text, "requirements.txt:1", text.partition("=")[0].partition("[")[0], constraint)


@pytest.mark.parametrize(
    ("texts", "added", "optional"),
    [
        (["fastapi"], ["uvicorn", "websockets"], ["httptools", "uvloop"]),
        (["fastapi", "uvicorn==0.30.0"], ["websockets"], ["httptools", "uvloop"]),
        (["uvicorn[standard]==0.30.0", "wsproto", "uvloop"], [], ["httptools"]),
    ],
)
def test_the_server_s_packages_are_added_and_noted(texts: list[str], added: list[str], optional: list[str]) -> None:
    lines, notes = [line(text) for text in texts], list[str]()
    required = asgi_server.served(lines, notes)
    assert required[: len(lines)] == lines
    required = required[len(lines) :]
    # Without an app's own pin, and with one, uvicorn has the options that the loader sets.
    assert [each.text for each in required] == ["uvicorn>=0.22", *(name for name in added if name != "uvicorn")]
    assert required[0].name == "uvicorn"
    assert asgi_server.optional(lines).split() == optional
    beginning = f"requirements: bake adds {' and '.join(added)} to serve the ASGI app"
    assert [note.startswith(beginning) for note in notes] == [True] * bool(added)


def test_a_constraint_names_no_server() -> None:
    notes: list[str] = []
    asgi_server.served([line("uvicorn==0.30.0", constraint=True)], notes)
    assert "bake adds uvicorn and websockets" in notes[0]
