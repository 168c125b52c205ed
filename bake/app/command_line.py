"""Take a command line apart: its words, the folder that it changes to, and the program that it starts."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress


def split(command: str) -> list[str]:
    """Return the words of a command; none if its quotes are not closed."""
    with suppress(ValueError):
        return shlex.split(command)
    return []


def first_folder(words: list[str]) -> str:
    """Return FOLDER of `cd FOLDER && …`, or ""."""
    return words[1] if words[:1] == ["cd"] and words[2:3] == ["&&"] else ""


def program(words: list[str]) -> str:
    """Return the program that the words start, after `cd FOLDER &&`, assignments, `env` and `exec`."""
    words = words[3:] if first_folder(words) else words
    return next((word for word in words if not re.match(r"\w+=|(env|exec)$", word)), "")
