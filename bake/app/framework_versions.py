"""Tell WSGI apps from ASGI apps where it depends on the version of the framework that the app's requirements admit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

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


def kinds(folder: Path, requirements: str | tuple[str, ...] | None, users: Iterable[PurePosixPath]) -> Kinds:
    """Return the callables for an app with these `requirements` in its recipe. `users` are files that use connexion."""
    folders = sorted({parent for path in users for parent in path.parents})
    # The faults of the requirements are reported later.
    with suppress(BakeError, OSError):
        if any(_has_old_connexion(folder, source) for source in _sources(folder, requirements, folders)):
            return (WSGI_MAKERS | CONNEXION_MAKERS, False), (ASGI_MAKERS - CONNEXION_MAKERS, True)
    return (WSGI_MAKERS, False), (ASGI_MAKERS, True)


def _sources(
    folder: Path, requirements: str | tuple[str, ...] | None, folders: Iterable[PurePosixPath]
) -> Iterator[str | tuple[str, ...]]:
    """Yield the requirements in the recipe, or else the files that list them in these folders of the app."""
    if requirements is not None:
        yield requirements
        return
    for subfolder in folders:
        if file := requirements_file(folder / subfolder):
            yield str(subfolder / file)


def _has_old_connexion(folder: Path, source: str | tuple[str, ...]) -> bool:
    """Return whether requirements admit no connexion with ASGI apps."""
    lines = requirement_lines(folder, source, DEBIAN_13)
    pins = [Requirement(line.text).specifier for line in lines if line.name == "connexion" and not line.reference]
    return any(server_pins.is_older(specifier, ASGI_CONNEXION) for pin in pins for specifier in pin)
