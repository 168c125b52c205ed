"""Gather what a release is made of: the app's files, its lock and wheels, and the files that bake adds."""

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
from bake.bundle import lock, release_files, wheel_cache
from bake.config.loader import FILE_NAME
from bake.config.recipe import Recipe
from bake.errors import AppFolderError
from bake.host import paths
from bake.host.files import file_digest

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
    def opened(self) -> Iterator[BinaryIO]:
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
    kept_out: tuple[tuple[str, str], ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """The excluded paths, each with the reason, for people to read."""
        return tuple(f"{name} ({why})" for name, why in self.kept_out)


def gather(folder: Path, recipe: Recipe, locked: lock.Lock, wheels: list[Path]) -> Release:
    """Return a release: lock.txt, source/, `release_files.files` and wheels/. Read no file of the app.

    Raises AppFolderError for a folder that cannot be read or a link that leaves the app's folder, and WheelError for a
    wheel that is not in the lock.
    """
    wheel_cache.verify(wheels, locked)
    left_out: list[tuple[str, str]] = []
    kept = [] if recipe.package else sorted(_walk(folder, folder, [], left_out))
    for prefix, inside in (recipe.static or {}).items():
        if folder / inside != folder and folder / inside not in kept:
            raise AppFolderError(
                f"static: {prefix} needs the folder {inside}, which is excluded",
                f"Add `!/{inside}/` to {folder / '.bakeignore'}.",
            )
    hashes = frozenset(map(file_digest, wheels))
    locks = "".join(lock.only(block, hashes) for block in lock.blocks(locked.text))
    members = [
        Member("lock.txt", 0o644, locks.encode()),
        Member("source", 0o755),
        *(_member(path, f"source/{path.relative_to(folder)}", folder) for path in kept),
        *(
            Member(name, file.mode, file.text.encode())
            for name, file in sorted(release_files.files(folder, recipe, kept).items())
        ),
        *(
            _member(wheel, f"wheels/{wheel.name}", wheel.parent)
            for wheel in sorted(wheels, key=lambda wheel: wheel.name)
        ),
    ]
    return Release(tuple(members), tuple(left_out))


def _member(path: Path, name: str, folder: Path) -> Member:
    """Return the member for a file, a folder, or a link whose target is inside `folder`."""
    with _readable(path):
        if path.is_symlink():
            root, end = os.path.realpath(folder), os.path.realpath(path)
            if os.path.commonpath([root, end]) != root:
                raise AppFolderError(
                    f"{path} is a link to {Path(path).readlink()}, outside the app's folder",
                    "Replace the link by the file, or exclude the link in .bakeignore.",
                )
            return Member(name, 0o777, target=os.path.relpath(end, os.path.realpath(path.parent)))
        if path.is_dir():
            return Member(name, 0o755)
        return Member(name, 0o755 if path.stat().st_mode & 0o100 else 0o644, path)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
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
    asked, place = ignore.verdict(stack, ignore.BAKEIGNORE, name)
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
