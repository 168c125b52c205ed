"""Pack a release into one reproducible archive with a digest."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from bake.bundle import shared_libraries, wheel_cache
from bake.bundle.app_source import AppSource
from bake.bundle.lock import Requirements, resolve
from bake.bundle.release import Member, Release, gather
from bake.host import cache
from bake.host.files import atomic_output, file_digest
from bake.host.progress import Reporter


@dataclass(frozen=True)
class Bundle:
    """The archive of a release, and its `size` in bytes."""

    path: Path
    sha256: str
    size: int
    release: Release


def collect(app: AppSource, out: Path, report: Reporter, age: cache.Age = cache.A_WEEK) -> Bundle:
    """Fetch the wheels of an app for its Debian release, and pack them with its files at `out`.

    Resolves the requirements first if the app has no lock. `age` is the age that the lock may have.
    """
    recipe, target = app.recipe, app.recipe.target
    with report.phase("bundle") as phase:
        lock = app.lock
        if lock is None:
            phase.progress(0.1, "resolving requirements")
            lock = resolve(Requirements.read(app.files, recipe, target), age)
            if lock.built_packages:
                report.note(lock.build_note)
        phase.progress(0.5, "fetching wheels")
        wheels = wheel_cache.wheels(lock, target, recipe.index)
        libraries = wheel_cache.required_libraries(lock, target)
        unknown_libraries = shared_libraries.require(libraries, recipe.packages, target)
        if unknown_libraries and not recipe.packages:
            report.note(
                f"no wheel contains {', '.join(unknown_libraries)}: "
                "if the app does not start, add Debian packages to `packages`"
            )
        bundle = pack(gather(app.files, recipe, lock, wheels), out)
    if bundle.release.exclusion_notes:
        report.note(f"excluded: {', '.join(bundle.release.exclusion_notes)}")
    return bundle


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
