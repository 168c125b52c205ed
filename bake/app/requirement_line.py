"""Parse one requirement of an app, and explain those that bake cannot use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bake.app import unneeded_packages
from bake.config.debian import Target
from bake.errors import RequirementError

HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")
#: The options that make a requirement editable, and a requirement that is a folder or a wheel file.
EDITABLE = re.compile(r"(-e|--editable)[= ]\s*")
PATH = re.compile(r"[./~]|file:|.*\.whl$")


@dataclass(frozen=True)
class Line:
    """A requirement, and its location as `file:line`. `unneeded` is why the machine does not need it, or ""."""

    text: str
    location: str
    name: str
    constraint: bool = False
    hashes: frozenset[str] = frozenset()
    unneeded: str = ""


def marker_environment(target: Target) -> dict[str, str]:
    """Return the variables of markers (PEP 508) on a target."""
    return {
        "implementation_name": "cpython", "implementation_version": target.python_full_version, "os_name": "posix",
        "platform_machine": "x86_64", "platform_python_implementation": "CPython", "platform_release": "",
        "platform_system": "Linux", "platform_version": "", "python_full_version": target.python_full_version,
        "python_version": target.python_version, "sys_platform": "linux", "extra": "",
    }  # fmt: skip


def parse(text: str, location: str, target: Target, constraint: bool = False) -> Line:
    """Return a requirement. Raises RequirementError for one that bake does not support."""
    specification = re.sub(r"\s--hash[= ]\S+", "", text).strip()
    path = EDITABLE.sub("", specification)
    if re.match(r"(git|hg|svn|bzr)\+|https?:", path) or re.search(r"@\s*[\w+]+:", path):
        hint = _address_hint(path)
    elif EDITABLE.match(specification) or PATH.match(specification):
        hint = (
            "bake installs packages from an index only. Copy the package's folder into the app's folder, or upload a "
            "wheel of it to a package `index`."
        )
    else:
        try:
            requirement = Requirement(specification)
        except InvalidRequirement as error:
            hint = f"Write it as name==version. {str(error).splitlines()[0]}."
        else:
            # For a path, which may be the app's own folder, uv would run a build backend.
            if not requirement.url:
                hashes = frozenset(HASH.findall(text))
                name = canonicalize_name(requirement.name)
                return Line(specification, location, name, constraint, hashes, _unneeded(requirement, target))
            hint = "Require a version on a package index instead of a URL."
    raise RequirementError(f"{location}: bake cannot use {specification!r}", hint)


def _unneeded(requirement: Requirement, target: Target) -> str:
    """Return why a requirement that applies on the target is not needed there, or ""."""
    if requirement.marker and not requirement.marker.evaluate(marker_environment(target)):
        return ""
    return unneeded_packages.reason(requirement.name, target.python)


def _address_hint(address: str) -> str:
    """Return the next step for a requirement at a URL. bake would have to run its build, or trust a changing file."""
    name = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*@", address) or re.search(r"egg=([\w.-]+)", address)
    name = name or re.search(r"/([\w.-]+?)(?:\.git)?(?:@[^/]*)?(?:#.*)?$", address)
    package = name[1] if name else "name"
    return (
        "bake installs packages from an index only. Require a release of it, as in "
        f"`{package}==…`, or build a wheel (`pip wheel --no-deps 'URL'`) and upload it to a package `index`."
    )
