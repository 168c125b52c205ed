"""List the packages that serve an ASGI app. bake adds those that the app's requirements do not name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.utils import canonicalize_name

from bake.app import server_pins
from bake.app.requirement_line import Line

#: The oldest uvicorn with the options that the machine's loader sets.
UVICORN = "uvicorn>=0.22"
#: uvicorn needs one of them for WebSockets.
WEBSOCKETS = ("websockets", "wsproto")
#: They make uvicorn faster, and do not have wheels for every Python.
OPTIONAL = ("httptools", "uvloop")
LOCATION = "bake's server for ASGI apps"
NOTE = f"requirements: bake adds {{}} to serve the ASGI app, and {' and '.join(OPTIONAL)} if they have wheels"


def served(lines: Iterable[Line], notes: list[str]) -> list[Line]:
    """Return an ASGI app's requirements with those of its server. Note what the app does not name, or pins too low."""
    lines = server_pins.raised(lines, UVICORN, notes)
    names = {line.name for line in lines if not line.constraint}
    added = ["uvicorn"] * ("uvicorn" not in names) + [WEBSOCKETS[0]] * names.isdisjoint(WEBSOCKETS)
    if added:
        notes.append(NOTE.format(" and ".join(added)))
    return [*lines, _line(UVICORN), *(_line(name) for name in added if name != "uvicorn")]


def optional(lines: Iterable[Line]) -> str:
    """Return the text of requirements that the server can do without."""
    names = {line.name for line in lines}
    return "".join(f"{name}\n" for name in OPTIONAL if name not in names)


def _line(text: str) -> Line:
    return Line(text, LOCATION, canonicalize_name(re.split("[<>=]", text)[0]))
