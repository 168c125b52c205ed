"""Tell WSGI apps from ASGI apps where it depends on the version of the framework that the app's requirements admit."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from bake.app import server_pins
from bake.app.frameworks import ASGI_MAKERS, CONNEXION_MAKERS, WSGI_MAKERS
from bake.app.requirements_files import requirement_lines, requirements_file
from bake.config.debian import DEBIAN_13
from bake.errors import BakeError

#: The callables that create an app, and whether it is an ASGI app.
Kinds = tuple[tuple[set[str], bool], tuple[set[str], bool]]
#: The first version of connexion with ASGI apps.
ASGI_CONNEXION = Version("3")


def kinds(folder: Path, requirements: str | tuple[str, ...] | None) -> Kinds:
    """Return the callables for an app with these `requirements`, or with those that its folder lists."""
    wsgi_makers = CONNEXION_MAKERS if _has_old_connexion(folder, requirements) else set()
    return (WSGI_MAKERS | wsgi_makers, False), (ASGI_MAKERS - wsgi_makers, True)


def _has_old_connexion(folder: Path, requirements: str | tuple[str, ...] | None) -> bool:
    """Return whether the requirements admit no connexion with ASGI apps. Their faults are reported later."""
    with suppress(BakeError, OSError):
        source = requirements_file(folder) if requirements is None else requirements
        lines = requirement_lines(folder, source, DEBIAN_13) if source else []
        pins = [Requirement(line.text).specifier for line in lines if line.name == "connexion" and not line.reference]
        return any(server_pins.is_older(specifier, ASGI_CONNEXION) for pin in pins for specifier in pin)
    return False
