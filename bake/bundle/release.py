"""Gather the members of a release: the app's files, its lock and wheels, and the files that bake adds."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pathspec import GitIgnoreSpec

from bake.app import ignore
from bake.bundle import release_files, wheel_cache
from bake.bundle.lock import Lock, lock_entries, with_hashes
from bake.config.loader import FILE_NAME
from bake.config.recipe import Recipe
from bake.errors import AppFolderError
from bake.host import paths
from bake.host.files import file_digest

#: Patterns (as in .gitignore) of files that bake excludes from each image, by the reason that bake prints.
EXCLUDED_PATTERNS = {
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
EXCLUDED_SPECS = {reason: GitIgnoreSpec.from_lines(patterns) for reason, patterns in EXCLUDED_PATTERNS.items()}
#: The first bytes of bake's user-data and launch settings, which may contain secrets.
DOCUMENT = (b"#cloud-config\n# Made by bake", b"#cloud-config\n# Settings for a machine that bake")


@dataclass(frozen=True)
class Member:
    """A file, a folder or a link of a release, by its path in it.

    The content of a file is `source`, or is in the file that `source` names. A link has its relative `target`; a
    folder has neither.
    """

    name: str
    mode: int
    source: bytes | Path | None = None
    target: str = ""

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open a file's content. Raises AppFolderError if it cannot be read."""
        if not isinstance(self.source, Path):
            yield io.BytesIO(self.source or b"")
            return
        with _readable(self.source), self.source.open("rb") as stream:
            yield stream


@dataclass(frozen=True)
class Release:
    """The members of a release in the order of its archive, and the excluded paths, each with the reason."""

    members: tuple[Member, ...]
    exclusions: tuple[tuple[str, str], ...]

    @property
    def exclusion_notes(self) -> tuple[str, ...]:
        """Return the excluded paths, each with the reason, for people to read."""
        return tuple(f"{name} ({reason})" for name, reason in self.exclusions)


def gather(folder: Path, recipe: Recipe, lock: Lock, wheels: list[Path]) -> Release:
    """Return a release: lock.txt, source/, `release_files.files` and wheels/. Read no file of the app.

    Raises AppFolderError for a folder that cannot be read or a link that leaves the app's folder, and WheelError for a
    wheel that is not in the lock.
    """
    wheel_cache.verify(wheels, lock)
    exclusions: list[tuple[str, str]] = []
    source_paths = [] if recipe.package else sorted(_walk(folder, folder, [], exclusions))
    for prefix, static_folder in (recipe.static or {}).items():
        if folder / static_folder != folder and folder / static_folder not in source_paths:
            raise AppFolderError(
                f"static: {prefix} needs the folder {static_folder}, which is excluded",
                f"Add `!/{static_folder}/` to {folder / '.bakeignore'}.",
            )
    hashes = frozenset(map(file_digest, wheels))
    lock_text = "".join(with_hashes(entry, hashes) for entry in lock_entries(lock.text))
    members = [
        Member("lock.txt", 0o644, lock_text.encode()),
        Member("source", 0o755),
        *(_member(path, f"source/{path.relative_to(folder)}", folder) for path in source_paths),
        *(
            Member(name, file.mode, file.text.encode())
            for name, file in sorted(release_files.files(folder, recipe, source_paths).items())
        ),
        *(
            _member(wheel, f"wheels/{wheel.name}", wheel.parent)
            for wheel in sorted(wheels, key=lambda wheel: wheel.name)
        ),
    ]
    return Release(tuple(members), tuple(exclusions))


def _member(path: Path, name: str, folder: Path) -> Member:
    """Return the member for a file, a folder, or a link whose target is inside `folder`."""
    with _readable(path):
        if path.is_symlink():
            root, destination = os.path.realpath(folder), os.path.realpath(path)
            if os.path.commonpath([root, destination]) != root:
                raise AppFolderError(
                    f"{path} is a link to {Path(path).readlink()}, outside the app's folder",
                    "Replace the link by the file, or exclude the link in .bakeignore.",
                )
            return Member(name, 0o777, target=os.path.relpath(destination, os.path.realpath(path.parent)))
        if path.is_dir():
            return Member(name, 0o755)
        return Member(name, 0o755 if path.stat().st_mode & 0o100 else 0o644, path)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn a PermissionError in the block into AppFolderError."""
    try:
        yield
    except PermissionError as error:
        raise AppFolderError(
            f"{path} cannot be read: {error.strerror}", "Change its mode, or exclude it in .bakeignore."
        ) from None


def _reason(path: Path, name: str, stack: list[ignore.Rules]) -> str:
    """Return why a path is excluded, or "". `.bakeignore` overrides all else, and inner files override outer ones."""
    if name == FILE_NAME:
        return "the recipe; it may contain check.env"
    is_excluded, location = ignore.verdict(stack, ignore.BAKEIGNORE, name)
    if is_excluded is not None:
        return location if is_excluded else ""
    for reason, spec in EXCLUDED_SPECS.items():
        if spec.match_file(name):
            return reason
    if (path / "pyvenv.cfg").exists():
        return "virtual environment"
    if path == paths.cache():
        return "the cache of bake"
    is_ignored, location = ignore.verdict(stack, ".gitignore", name)
    if is_ignored:
        return location
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
    """Return whether a file is user-data or launch settings from bake, or is to become one."""
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


def _walk(
    folder: Path, subfolder: Path, outer_rules: list[ignore.Rules], exclusions: list[tuple[str, str]]
) -> Iterator[Path]:
    """Yield the paths that go into the image, and add the others to `exclusions`: of a folder, only its own name."""
    try:
        entries = sorted(subfolder.iterdir())
    except OSError as error:
        raise AppFolderError(f"{error.filename} cannot be read: {error.strerror}", "Change its mode.") from None
    ignore_files = [path for path in entries if path.name in ignore.IGNORE_FILES and path.is_file()]
    rules = [ignore.read(folder, path) for path in ignore_files]
    for path in entries:
        is_folder = path.is_dir() and not path.is_symlink()
        name = path.relative_to(folder).as_posix() + "/" * is_folder
        reason = _reason(path, name, [*rules, *outer_rules])
        if reason:
            exclusions.append((name, reason))
            continue
        yield path
        if is_folder:
            yield from _walk(folder, path, [*rules, *outer_rules], exclusions)
