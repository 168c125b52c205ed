"""Gather the members of a release: the app's files, its lock and wheels, and the files that bake adds."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from bake.bundle import release_files, secret_contents, wheel_cache
from bake.bundle.exclusions import walk
from bake.bundle.interpreter import Interpreter
from bake.bundle.lock import Lock, lock_entries, with_hashes
from bake.config import contract
from bake.config.recipe import Recipe
from bake.errors import AppFolderError
from bake.host.files import file_digest


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
    def lock_text(self) -> str:
        """Return the text of its lock."""
        sources = (member.source for member in self.members if member.name == contract.LOCK)
        return next(source for source in sources if isinstance(source, bytes)).decode()

    @property
    def exclusion_notes(self) -> tuple[str, ...]:
        """Return the excluded paths, each with the reason, for people to read."""
        return tuple(f"{name} ({reason})" for name, reason in self.exclusions)


@dataclass(frozen=True)
class Additions:
    """What bake adds to an app: an interpreter for `python`, and the members of the front end for `assets`.

    The paths of the members are below the app's folder.
    """

    interpreter: Interpreter | None = None
    assets: Sequence[Member] | None = None


def source_members(folder: Path, exclusions: list[tuple[str, str]]) -> list[Member]:
    """Return the members for the files of an app's folder, with paths below it. `exclusions` as for `walk`.

    Raises AppFolderError for a folder that cannot be read or a link that leaves the app's folder.
    """
    return [_member(path, str(path.relative_to(folder)), folder) for path in sorted(walk(folder, exclusions))]


def gather(folder: Path, recipe: Recipe, lock: Lock, wheels: list[Path], additions: Additions | None = None) -> Release:
    """Return a release: lock.txt, source/, `release_files.files` and wheels/, with what bake adds.

    The content of the app's files and of the wheels is read when the release is written. A front end
    that bake built replaces the folders in `recipe.assets`.

    Raises AppFolderError for a folder that cannot be read or a link that leaves the app's folder, SecretError for
    private keys and tokens in the app's files, and WheelError for a wheel that is not in the lock.
    """
    wheel_cache.verify(wheels, lock)
    assets = additions.assets if additions else None
    exclusions: list[tuple[str, str]] = []
    source = [] if recipe.package else source_members(folder, exclusions)
    if assets is not None and recipe.assets:
        source = [member for member in source if not recipe.assets.contains(member.name)]
        exclusions = [(name, reason) for name, reason in exclusions if not recipe.assets.contains(name)]
    # The source that `app` names is public already, and may have keys.
    if recipe.app is None:
        excluded = secret_contents.exclude(folder, [folder / member.name for member in source])
        source = [member for member in source if member.name not in excluded]
        exclusions += [(name, "a secret in a test or a document") for name in excluded]
    source_paths = [folder / member.name for member in source]
    members_of_source = {member.name: member for member in (*(assets or ()), *source)}
    for prefix, static_folder in (recipe.static or {}).items():
        if static_folder not in members_of_source:
            raise AppFolderError(
                f"static: {prefix} needs the folder {static_folder}, which is excluded",
                f"Add `!/{static_folder}/` to {folder / '.bakeignore'}.",
            )
    hashes = frozenset(map(file_digest, wheels))
    lock_text = "".join(with_hashes(entry, hashes) for entry in lock_entries(lock.text))
    members = [
        Member(contract.LOCK, 0o644, lock_text.encode()),
        Member("source", 0o755),
        *(
            replace(member, name=f"source/{name}")
            for name, member in sorted(members_of_source.items(), key=lambda item: Path(item[0]))
        ),
        *(
            Member(name, file.mode, file.text.encode())
            for name, file in sorted(release_files.files(folder, recipe, source_paths).items())
        ),
        *(
            _member(wheel, f"wheels/{wheel.name}", wheel.parent)
            for wheel in sorted(wheels, key=lambda wheel: wheel.name)
        ),
        *_interpreter_members(additions.interpreter if additions else None),
    ]
    return Release(tuple(members), tuple(exclusions))


def _interpreter_members(interpreter: Interpreter | None) -> tuple[Member, ...]:
    """Return the members with an interpreter: its archive, and the record of its origin."""
    if interpreter is None:
        return ()
    record = Member(contract.PYTHON, 0o644, interpreter.to_json().encode())
    return record, Member(contract.PYTHON_ARCHIVE, 0o644, interpreter.archive)


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
