"""Write values as JSON with a version of their format, and read them if this bake knows that version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from bake.errors import ProgramError

#: The key of the version. `version` itself is the app's own version in the file beside an image.
KEY = "manifest_version"
_Value = TypeVar("_Value")


def dump(values: Mapping[str, Any], version: int) -> str:
    """Return the values as indented JSON, after the version of their format."""
    return json.dumps({KEY: version, **values}, indent=1) + "\n"


def load(text: str, version: int, name: str) -> dict[str, Any]:
    """Return the values in JSON text. `version` is the newest format that the caller reads.

    Text without a version is of version 0, from before bake wrote one. `name` is the file's, for errors. Raises
    ValueError if the text is not a JSON object, and ProgramError if its version is unknown.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError(f"{name} is not a JSON object")
    format_version = values.pop(KEY, 0)
    if type(format_version) is not int or not 0 <= format_version <= version:
        raise ProgramError(
            f"{name} has the unknown version {format_version!r}; this version of bake reads versions up to {version}",
            "Use the version of bake that made it. Or remove the file, and bake again.",
        )
    return values


def value(values: Mapping[str, Any], key: str, default: _Value) -> _Value:
    """Return the value of a key, or `default` if it is missing or has another type than the default."""
    entry = values.get(key, default)
    if isinstance(default, float) and type(entry) is int:
        return float(entry)  # type: ignore[return-value]
    return entry if type(entry) is type(default) else default


def texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return the strings in the list of a key, or () if it has none."""
    entries: list[object] = value(values, key, [])
    return tuple(entry for entry in entries if isinstance(entry, str))
