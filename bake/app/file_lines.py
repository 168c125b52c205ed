"""Find the lines of keys and packages in files of other tools. Python's parsers of TOML and JSON do not tell them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.utils import canonicalize_name

#: A key at the beginning of a line or in a header, and one in braces.
KEY = r"""^[ \t]*\[*(?:[\w."'-]+\.)?["']?{0}["']?[ \t]*[].=:]|[{{,][ \t]*["']?{0}["']?[ \t]*[=:]"""
#: The header of an entry in an array of tables.
ENTRY = r"^[ \t]*\[\[(?:[\w.-]+\.)?{0}\]\]"
#: The name of a package in a lock of TOML, and in the two files of pipenv.
TOML_PACKAGE = re.compile(r"""^name[ \t]*=[ \t]*["']([\w.-]+)["']""", re.M)
PACKAGES = {
    "Pipfile": re.compile(r"""^["']?([\w.-]+)["']?[ \t]*=""", re.M),
    "Pipfile.lock": re.compile(r"""^[ \t]*"([\w.-]+)":[ \t]*\{""", re.M),
}


def of_key(text: str, keys: Iterable[str | int]) -> int:
    """Return the line of the last of nested keys that the text has. An integer is the number of an entry in a list."""
    position, last_key = 0, ""
    for key in keys:
        if isinstance(key, str):
            last_key = re.escape(key)
            match = re.compile(KEY.format(last_key), re.M).search(text, position)
            if match is None:
                break
            position = match.start()
        else:
            starts = (match.start() for match in re.finditer(ENTRY.format(last_key), text, re.M))
            entries = [start for start in starts if start >= position]
            position = entries[key] if key < len(entries) else position
    return text.count("\n", 0, position) + 1


def of_packages(text: str, name: str) -> dict[str, int]:
    """Return the line of each package in the file of this name."""
    lines: dict[str, int] = {}
    line, position = 1, 0
    for match in PACKAGES.get(name, TOML_PACKAGE).finditer(text):
        line, position = line + text.count("\n", position, match.start(1)), match.start(1)
        lines.setdefault(canonicalize_name(match[1]), line)
    return lines
