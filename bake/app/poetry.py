"""Translate the dependencies of a Poetry project to requirements as pip and uv read them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import Version

#: One condition of Poetry's `^1.2`, `~1.2`, `>=1,<2`, `1.*` and `1.2`.
CONDITION = re.compile(r"(\^|~=|~|[<>=!]=|[<>]|===?|)\s*v?(\d[\w.+!-]*(?:\.\*)?)")


class UnsupportedError(ValueError):
    """A dependency that has no equal as a requirement."""


def specifiers(constraint: str) -> str:
    """Return a Poetry version constraint as PEP 440 specifiers. Raises UnsupportedError."""
    constraint = constraint.strip()
    if constraint in ("", "*"):
        return ""
    parts = []
    for part in re.split(r"\s*,\s*|\s+(?=[<>=!^~])", re.sub(r"([<>=!^~])\s+", r"\1", constraint)):
        match = CONDITION.fullmatch(part)
        if match is None:
            raise UnsupportedError(f"the constraint {constraint!r}")
        parts += _specifier(match[1], match[2])
    return ",".join(parts)


def _specifier(operator: str, version: str) -> list[str]:
    """Return the specifiers of a condition. `^` fixes the first part that is not 0, and `~` the minor version."""
    if operator not in ("^", "~"):
        return [f"{operator or '=='}{version}"]
    release = Version(version).release
    if operator == "~":
        index = min(1, len(release) - 1)
    else:
        index = next((number for number, part in enumerate(release) if part), len(release) - 1)
    upper = [*release[:index], release[index] + 1]
    return [f">={version}", f"<{'.'.join(map(str, upper))}"]


def requirements(dependencies: Mapping[str, Any]) -> tuple[str, ...]:
    """Return [tool.poetry.dependencies] as requirements, except `python` and optional ones. Raises UnsupportedError."""
    lines: list[str] = []
    for name, value in dependencies.items():
        if name.lower() != "python":
            for choice in value if isinstance(value, list) else [value]:
                lines += _requirement(name, choice)
    return tuple(lines)


def _requirement(name: str, value: Any) -> Iterator[str]:
    """Yield the requirement of one entry; none if it is optional."""
    entry: Mapping[str, Any] = value if isinstance(value, dict) else {"version": value}
    if entry.get("optional"):
        return
    extras = f"[{','.join(entry['extras'])}]" if entry.get("extras") else ""
    markers = [f"({marker})" for marker in (entry.get("markers"),) if marker]
    for specifier in filter(None, specifiers(str(entry.get("python", ""))).split(",")):
        operator, version = re.fullmatch(r"(\W+)(.*)", specifier).groups()  # type: ignore[union-attr]
        markers.append(f'python_version {operator} "{version}"')
    marker = f" ; {' and '.join(markers)}" if markers else ""
    if "git" in entry:
        commit = entry.get("rev") or entry.get("tag") or entry.get("branch")
        folder = f"#subdirectory={entry['subdirectory']}" if entry.get("subdirectory") else ""
        yield f"{name}{extras} @ git+{entry['git']}" + (f"@{commit}" if commit else "") + folder + marker
    elif "url" in entry or "path" in entry:
        yield f"{name}{extras} @ {entry.get('url') or 'file:' + entry['path']}{marker}"
    else:
        yield f"{name}{extras}{specifiers(str(entry.get('version', '*')))}{marker}"
