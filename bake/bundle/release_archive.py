"""Pack an app and its wheels into one reproducible archive with a digest."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from bake.app import ignore
from bake.bundle import lock, release_files, shared_libraries, wheel_cache
from bake.config.debian import Target
from bake.config.loader import FILE_NAME
from bake.config.recipe import Recipe
from bake.errors import AppFolderError
from bake.host import cache, paths
from bake.host.files import file_digest, whole
from bake.host.progress import Reporter

#: Patterns (as in .gitignore) of files that bake excludes from each image, by the reason that bake prints.
LEFT_OUT = {
    "version control": (".git", ".hg", ".svn"),
    "secrets": (
        ".env",
        ".env.*",
        "*.env",
        "*.pem",
        "*.key",
        "id_rsa*",
        "id_ed25519*",
        ".ssh",
        ".aws",
        ".netrc",
        ".pgpass",
        "client_secret*.json",
        "credentials.json",
    ),
    "virtual environment": (".venv", "venv"),
    "cache": ("__pycache__/", "*.py[co]", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".tox/", ".nox/"),
    "Node packages": ("node_modules",),
    "disk image": ("*.qcow2",),
    "database": ("*.sqlite*", "*.db", "*.db-journal", "*.db-wal", "*.db-shm"),
    "build output": ("/build/", "/dist/"),
    "Finder metadata": (".DS_Store",),
}
LEFT_OUT_SPECS = {why: GitIgnoreSpec.from_lines(patterns) for why, patterns in LEFT_OUT.items()}
#: The first bytes of bake's user-data and launch settings, which may contain secrets.
DOCUMENT = (b"#cloud-config\n# Made by bake", b"#cloud-config\n# Settings for a machine that bake")


@dataclass(frozen=True)
class Bundle:
    """The archive: its `size` in bytes, the number of source `files`, and the excluded paths, each with the reason."""

    path: Path
    sha256: str
    size: int
    files: int
    kept_out: tuple[tuple[str, str], ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """The excluded paths, each with the reason, for people to read."""
        return tuple(f"{name} ({why})" for name, why in self.kept_out)


def collect(
    folder: Path,
    wanted: Recipe,
    goal: Target,
    out: Path,
    report: Reporter,
    age: cache.Age = cache.A_WEEK,
) -> Bundle:
    """Resolve an app's requirements for a Debian release, fetch the wheels, and pack both at `out`.

    `age` is the age that the lock may have.
    """
    with report.phase("bundle") as phase:
        phase.progress(0.1, "resolving requirements")
        locked = lock.resolve(folder, wanted, goal, age)
        if locked.built:
            report.note(locked.consent)
        phase.progress(0.5, "fetching wheels")
        wheels = wheel_cache.wheels(locked, goal, wanted)
        unknown = shared_libraries.require(wheel_cache.expects(locked, goal), wanted.packages, goal)
        if unknown and not wanted.packages:
            report.note(
                f"no wheel contains {', '.join(unknown)}: if the app does not start, add Debian packages to `packages`"
            )
        parcel = pack(folder, wanted, locked, wheels, out)
    if parcel.left_out:
        report.note(f"excluded: {', '.join(parcel.left_out)}")
    return parcel


def pack(folder: Path, recipe: Recipe, locked: lock.Lock, wheels: list[Path], out: Path) -> Bundle:
    """Write lock.txt, source/, `release_files.files` and wheels/ to the archive `out`. Equal content gives equal bytes.

    Raises AppFolderError for a file that cannot be read or a link that leaves the folder, and WheelError for a wheel
    that is not in the lock.
    """
    wheel_cache.verify(wheels, locked)
    left_out: list[tuple[str, str]] = []
    walked = [] if recipe.package else sorted(_walk(folder, folder, [], left_out))
    kept = [path for path in walked if path != out]
    for prefix, inside in (recipe.static or {}).items():
        if folder / inside != folder and folder / inside not in kept:
            raise AppFolderError(
                f"static: {prefix} needs the folder {inside}, which is excluded",
                f"Add `!/{inside}/` to {folder / '.bakeignore'}.",
            )
    hashes = frozenset(map(file_digest, wheels))
    with whole(out) as partial, tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as archive:
        lines = (lock.only(block, hashes) for block in lock.blocks(locked.text))
        _add_text(archive, "lock.txt", release_files.File("".join(lines)))
        _add(archive, folder.resolve(), "source", folder)
        for path in kept:
            _add(archive, path, f"source/{path.relative_to(folder)}", folder)
        for name, file in sorted(release_files.files(folder, recipe, kept).items()):
            _add_text(archive, name, file)
        for wheel in sorted(wheels, key=lambda wheel: wheel.name):
            _add(archive, wheel, f"wheels/{wheel.name}", wheel.parent)
    files = sum(1 for path in kept if path.is_symlink() or not path.is_dir())
    return Bundle(out, file_digest(out), out.stat().st_size, files, tuple(left_out))


def _reason(path: Path, name: str, stack: list[ignore.Rules]) -> str:
    """Return why a path is excluded, or "". `.bakeignore` overrides all else, and inner files override outer ones."""
    if name == FILE_NAME:
        return "the recipe; it may contain check.env"
    asked, place = ignore.verdict(stack, ignore.OWN, name)
    if asked is not None:
        return place if asked else ""
    for why, spec in LEFT_OUT_SPECS.items():
        if spec.match_file(name):
            return why
    if (path / "pyvenv.cfg").exists():
        return "virtual environment"
    if path == paths.cache():
        return "the cache of bake"
    ignored, place = ignore.verdict(stack, ".gitignore", name)
    if ignored:
        return place
    if _is_document(path):
        return "user-data from bake"
    return "" if path.is_symlink() or path.is_dir() or path.is_file() else "neither a file nor a folder"


def is_stdout(path: Path) -> bool:
    """Return whether standard output is redirected to this file."""
    try:
        return path.is_file() and os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False


def _is_document(path: Path) -> bool:
    if is_stdout(path):
        return True
    with contextlib.suppress(OSError):
        if path.is_file() and not path.is_symlink():
            return _beginning(path).startswith(DOCUMENT)
    return False


def _beginning(path: Path) -> bytes:
    """Return the first bytes of a file. Decode base64 of a gzipped file first."""
    with path.open("rb") as stream:
        first = stream.read(2048)
    # The base64 of 1f 8b 08, gzip's signature, and no flags.
    if not first.startswith(b"H4sIA"):
        return first[:64]
    with contextlib.suppress(ValueError, zlib.error):
        return zlib.decompressobj(wbits=31).decompress(base64.b64decode(first[: len(first) // 4 * 4]), 64)
    return b""


def _walk(folder: Path, here: Path, above: list[ignore.Rules], left_out: list[tuple[str, str]]) -> Iterator[Path]:
    """Yield the paths that go into the image, and add the others to `left_out`: of a folder, only its own name."""
    try:
        entries = sorted(here.iterdir())
    except OSError as error:
        raise AppFolderError(f"{error.filename} cannot be read: {error.strerror}", "Change its mode.") from None
    own = [path for path in entries if path.name in ignore.IGNORE_FILES and path.is_file()]
    rules = [ignore.read(folder, path) for path in own]
    for path in entries:
        is_folder = path.is_dir() and not path.is_symlink()
        name = path.relative_to(folder).as_posix() + "/" * is_folder
        why = _reason(path, name, [*rules, *above])
        if why:
            left_out.append((name, why))
            continue
        yield path
        if is_folder:
            yield from _walk(folder, path, [*rules, *above], left_out)


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    """Return a tar header that contains nothing about this machine or the time."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime, entry.uid, entry.gid = mode, 0, 0, 0
    return entry


def _add_text(archive: tarfile.TarFile, name: str, file: release_files.File) -> None:
    content = file.text.encode()
    entry = _entry(name, file.mode)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _add(archive: tarfile.TarFile, path: Path, name: str, folder: Path) -> None:
    """Add a file, a folder or a link whose target is inside `folder`."""
    try:
        if path.is_symlink():
            root, end = os.path.realpath(folder), os.path.realpath(path)
            if os.path.commonpath([root, end]) != root:
                raise AppFolderError(
                    f"{path} is a link to {Path(path).readlink()}, outside the app's folder",
                    "Replace the link by the file, or exclude the link in .bakeignore.",
                )
            entry = _entry(name, 0o777)
            entry.type, entry.linkname = tarfile.SYMTYPE, os.path.relpath(end, os.path.realpath(path.parent))
            archive.addfile(entry)
        elif path.is_dir():
            entry = _entry(name, 0o755)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        else:
            with path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                entry = _entry(name, 0o755 if status.st_mode & 0o100 else 0o644)
                entry.size = status.st_size
                archive.addfile(entry, stream)
    except PermissionError as error:
        raise AppFolderError(
            f"{path} cannot be read: {error.strerror}", "Change its mode, or exclude it in .bakeignore."
        ) from None
