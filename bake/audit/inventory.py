"""List what an app, an image or a machine has installed: its wheels, and the source packages of its Debian packages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bake.bundle import release_archive
from bake.bundle.app_source import AppSource
from bake.bundle.lock import wheel_versions
from bake.config.debian import TARGETS
from bake.disk import dpkg
from bake.errors import AppFolderError, ProgramError, SetupError
from bake.host import remote_scripts
from bake.host.files import file_digest
from bake.host.progress import Reporter
from bake.image import manifest
from bake.image.manifest import ImageManifest
from bake.vm.ssh import Login

#: The name of a package, or a version. bake writes both into a project for `uv audit`, and into the input of dpkg.
WORD = re.compile(r"[A-Za-z0-9.+~:!_-]+")


@dataclass(frozen=True)
class Inventory:
    """The wheels with their versions, and Debian's source packages with theirs.

    `sources` is None if they are not known. `suite` is the code name of the Debian version.
    """

    name: str
    wheels: Mapping[str, str]
    sources: Mapping[str, tuple[str, ...]] | None = None
    suite: str = ""


def of_folder(folder: Path, report: Reporter) -> Inventory:
    """Return the wheels that a bake of an app's folder would install."""
    with report.phase("lock"):
        lock = release_archive.lock_of(AppSource.read(folder, report), report)
    return Inventory(str(folder), wheel_versions(lock.text))


def of_image(image: Path) -> Inventory:
    """Return the packages of an image from the manifest beside it. Raises AppFolderError if it does not list them."""
    manifest.require_image(image, f"bake audit {image.parent}")
    path = manifest.path_of(image)
    try:
        values = ImageManifest.read(path)
    except (OSError, ValueError, ProgramError) as error:
        raise AppFolderError(f"{path} cannot be read: {error}", "Bake the image again.") from None
    if file_digest(image) != values.sha256:
        raise AppFolderError(f"{image} is not the image that {path} describes", "Bake the image again.")
    if not values.sources or values.release not in TARGETS:
        raise AppFolderError(f"{path} does not list the sources of the image's packages", "Bake the image again.")
    return Inventory(str(image), values.wheels, values.sources, TARGETS[values.release].suite)


def of_machine(login: Login) -> Inventory:
    """Return the packages of a running machine. Raises BootError if the login fails, SetupError for other machines."""
    login.require()
    result = login.script(remote_scripts.text("inventory.sh"))
    head, _, status = result.stdout.partition("\n---\n")
    suite, _, lock = head.partition("\n")
    if result.status or not status:
        raise SetupError(
            f"{login.host} cannot list its packages",
            "Audit a machine that was booted from an image of bake, or set up by a document of `bake render`.",
            result.stderr,
        )
    wheels, sources = wheel_versions(f"{lock}\n"), dpkg.source_versions(status)
    if not sources or (lock.strip() and not wheels):
        raise SetupError(
            f"The list of packages of {login.host} cannot be read, so nothing is known about them",
            "Audit the app's folder or the image instead.",
        )
    words = [*wheels, *wheels.values(), *sources, *(version for versions in sources.values() for version in versions)]
    if wrong := [word for word in words if not WORD.fullmatch(word)]:
        raise SetupError(
            f"{login.host} lists {wrong[0]!r}, which is neither the name of a package nor a version",
            "Do not trust its list. Audit the app's folder or the image instead.",
        )
    return Inventory(login.host, wheels, sources, suite)
