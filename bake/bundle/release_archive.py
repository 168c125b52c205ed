"""Pack a release into one reproducible archive with a digest."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

from bake.bundle import built_wheels, front_end, interpreter, secret_contents, shared_libraries, wheel_cache
from bake.bundle.app_source import AppSource
from bake.bundle.lock import Lock, Requirements, resolve
from bake.bundle.release import Additions, Member, Release, gather
from bake.bundle.wheel_builder import LOCK_OPTIONS, LockOptions
from bake.host.files import atomic_output, file_digest
from bake.host.progress import Reporter


@dataclass(frozen=True)
class Bundle:
    """The archive of a release, its `size` in bytes, and the Debian packages of the recipe and of built wheels."""

    path: Path
    sha256: str
    size: int
    release: Release
    packages: tuple[str, ...] = ()


def collect(app: AppSource, out: Path, report: Reporter, options: LockOptions = LOCK_OPTIONS) -> Bundle:
    """Build the front end of an app, fetch its wheels for its Debian release, and pack them with its files at `out`.

    Resolves the requirements first if the app has no lock. The Debian packages with the libraries of wheels that bake
    built become packages of the machine.
    """
    recipe, target = app.recipe, app.recipe.target
    secret_contents.require_public_settings(app.folder, recipe)
    assets = front_end.members(app, options, report)
    with report.phase("bundle") as phase:
        phase.progress(0.1, "resolving requirements")
        lock = lock_of(app, report, options)
        built_libraries = _built_libraries(lock)
        packages = tuple(dict.fromkeys(value for value in built_libraries.values() if value not in recipe.packages))
        if packages:
            report.note(f"packages: {', '.join(packages)} (libraries of the wheels that bake built)")
        phase.progress(0.5, "fetching wheels")
        wheels = wheel_cache.wheels(lock, target, recipe.index)
        libraries = {
            library: wheel
            for library, wheel in wheel_cache.required_libraries(lock, target).items()
            if library not in built_libraries
        }
        unknown_libraries = shared_libraries.require(libraries, recipe.packages, target)
        if unknown_libraries and not recipe.packages:
            report.note(
                f"no wheel contains {', '.join(unknown_libraries)}: "
                "if the app does not start, add Debian packages to `packages`"
            )
        all_packages = (*recipe.packages, *packages)
        additions = Additions(interpreter.fetch(target, report) if target.has_interpreter else None, assets)
        release = gather(app.files, recipe.model_copy(update={"packages": all_packages}), lock, wheels, additions)
        bundle = replace(pack(release, out), packages=all_packages)
    if bundle.release.exclusion_notes:
        report.note(f"excluded: {', '.join(bundle.release.exclusion_notes)}")
    return bundle


def lock_of(app: AppSource, report: Reporter, options: LockOptions = LOCK_OPTIONS) -> Lock:
    """Return the lock of an app for its Debian release. Resolves the requirements if the app has none."""
    if app.lock:
        return app.lock
    builder = options.builder(app.recipe, app.recipe.target, report)
    return resolve(Requirements.read(app.files, app.recipe, app.recipe.target), options.age, builder)


def _built_libraries(lock: Lock) -> dict[str, str]:
    """Return the libraries that the wheels built by bake need, with the Debian package that contains each."""
    libraries: dict[str, str] = {}
    for wheel in built_wheels.of_hashes(lock.hashes):
        libraries |= {library: package for library, package in wheel.libraries.items() if package}
    return libraries


def pack(release: Release, out: Path) -> Bundle:
    """Write a release to the archive `out`. Equal content gives equal bytes.

    Raises AppFolderError for a file that cannot be read.
    """
    with atomic_output(out) as partial, tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as archive:
        for member in release.members:
            _add(archive, member)
    return Bundle(out, file_digest(out), out.stat().st_size, release)


def _add(archive: tarfile.TarFile, member: Member) -> None:
    """Add a member with a header that contains nothing about this machine or the time."""
    entry = tarfile.TarInfo(member.name)
    entry.mode, entry.mtime, entry.uid, entry.gid = member.mode, 0, 0, 0
    if member.target:
        entry.type, entry.linkname = tarfile.SYMTYPE, member.target
        archive.addfile(entry)
    elif member.source is None:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    else:
        with member.open() as stream:
            entry.size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            archive.addfile(entry, stream)
