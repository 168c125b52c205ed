"""Replace an app's pins of its server that are too old for the machine.

Many apps pin the server of the year in which they were written. The server is the machine's affair, so it gets a newer
one, as it replaces mod_wsgi.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from packaging.requirements import Requirement
from packaging.specifiers import Specifier
from packaging.utils import canonicalize_name
from packaging.version import Version

from bake.app.requirement_line import Line


def raised(lines: Iterable[Line], minimum: str, notes: list[str]) -> list[Line]:
    """Return the lines with `minimum` (`uvicorn>=0.22`) in place of what admits only older releases. Note those."""
    oldest = Requirement(minimum)
    (bound,) = oldest.specifier
    result = []
    for line in lines:
        if line.name == canonicalize_name(oldest.name) and not line.reference:
            requirement = Requirement(line.text)
            if any(is_older(specifier, Version(bound.version)) for specifier in requirement.specifier):
                shown = f"{requirement.name}{requirement.specifier}"
                requirement.specifier = oldest.specifier
                notes.append(f"requirements: {minimum} instead of {shown} ({line.location}), to serve the app")
                line = replace(line, text=str(requirement), hashes=frozenset())
        result.append(line)
    return result


def is_older(specifier: Specifier, minimum: Version) -> bool:
    """Return whether a specifier admits no release from `minimum` on."""
    version = Version(specifier.version.removesuffix(".*"))
    release = version.release
    if specifier.operator == "~=":
        # ~=0.17.0 is a release of 0.17 (PEP 440).
        release = release[:-1]
    elif specifier.operator not in ("==", "===", "<", "<="):
        return False
    elif specifier.operator == "<" and version == minimum:
        return True
    return release < minimum.release[: len(release)] or (specifier.operator == "==" and version < minimum)
