"""Give old Flask the package by which it finds the commands of extensions, such as `flask db` of Flask-Migrate.

Flask before 2.1 asks setuptools' pkg_resources, and ignores the commands without it: `flask/cli.py` of 2.0.3 and 2.1.0.
Flask requires no setuptools, but up to Python 3.11 each new virtualenv had it, so such apps do not name it.
"""

from __future__ import annotations

from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.version import Version

from bake.app import server_pins
from bake.app.distributions import OLD_SETUPTOOLS
from bake.app.requirement_line import Line

#: The first release that finds commands without setuptools.
MODERN = Version("2.1")


def served(lines: Iterable[Line], notes: list[str]) -> list[Line]:
    """Return the requirements, with setuptools if they admit only old Flask and do not name it. Note that."""
    lines = list(lines)
    old = next((line for line in lines if line.name == "flask" and not line.reference and _is_old(line.text)), None)
    if old is None or any(line.name == "setuptools" and not line.constraint for line in lines):
        return lines
    use = "by which Flask before 2.1 finds commands such as `flask db`"
    notes.append(f"requirements: bake adds {OLD_SETUPTOOLS}, {use} ({old.location})")
    return [*lines, Line(OLD_SETUPTOOLS, old.location, "setuptools")]


def _is_old(text: str) -> bool:
    return any(server_pins.is_older(specifier, MODERN) for specifier in Requirement(text).specifier)
