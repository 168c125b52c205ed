"""Parse one requirement of an app, and explain those that bake cannot use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bake.app import direct_reference, unneeded_packages
from bake.app.direct_reference import DirectReference
from bake.config.debian import Target
from bake.errors import RequirementError
from bake.host.download import without_queries

HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Line:
    """A requirement, and its location as `file:line`. `unneeded` is why the machine does not need it, or "".

    With a `reference` to its source, `text` has no version, and `name` may be only a guess.
    """

    text: str
    location: str
    name: str
    constraint: bool = False
    hashes: frozenset[str] = frozenset()
    unneeded: str = ""
    reference: DirectReference | None = None


def marker_environment(target: Target) -> dict[str, str]:
    """Return the variables of markers (PEP 508) on a target."""
    return {
        "implementation_name": "cpython", "implementation_version": target.python_full_version, "os_name": "posix",
        "platform_machine": "x86_64", "platform_python_implementation": "CPython", "platform_release": "",
        "platform_system": "Linux", "platform_version": "", "python_full_version": target.python_full_version,
        "python_version": target.python_version, "sys_platform": "linux", "extra": "",
    }  # fmt: skip


def applies(requirement: Requirement, target: Target) -> bool:
    """Return whether the marker of a requirement is true on a target."""
    return requirement.marker is None or requirement.marker.evaluate(marker_environment(target))


def parse(text: str, location: str, target: Target, constraint: bool = False) -> Line:
    """Return a requirement. Raises RequirementError for one that bake does not support."""
    # pip takes options behind a requirement. Only hashes say what to install; the others are about its build.
    specification = re.split(r"\s--", text, maxsplit=1)[0].strip()
    try:
        reference = direct_reference.parse(specification)
        plain = specification if reference is None else _without_source(reference)
        requirement = Requirement(plain)
    except direct_reference.UnusableError as error:
        hint = str(error)
    except RecursionError:
        hint = "Its marker is nested too deeply."
    except InvalidRequirement as error:
        hint = f"Write it as name==version. {str(error).splitlines()[0]}."
    else:
        # For a path, which may be the app's own folder, uv would run a build backend.
        if not requirement.url:
            hashes = frozenset(HASH.findall(text))
            name = canonicalize_name(requirement.name)
            unneeded = _unneeded(requirement, target)
            return Line(plain, location, name, constraint, hashes, unneeded, reference)
        hint = "Require a version on a package index instead of a URL."
    shown = re.sub(r"//(?!git@)[^/\s]+@", "//…@", without_queries(specification))
    raise RequirementError(f"{location}: bake cannot use {shown!r}", hint)


def _without_source(reference: DirectReference) -> str:
    """Return a direct reference as a requirement of any version."""
    marker = f" ; {reference.marker}" if reference.marker else ""
    return f"{reference.guessed_name}{reference.extras}{marker}"


def _unneeded(requirement: Requirement, target: Target) -> str:
    """Return why a requirement that applies on the target is not needed there, or ""."""
    if not applies(requirement, target):
        return ""
    return unneeded_packages.reason(requirement.name, target.python)
