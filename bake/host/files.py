"""Compute digests, write outputs atomically, and turn faults of a disk into errors."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bake.errors import PlaceError, SpaceError
from bake.host.programs import as_root, run

CHUNK = 1 << 20
#: The last bytes to read of a machine's console or of a build's log, which others write without an end.
END = 1 << 20
#: Seconds after which no process still writes a partial output: a day.
ABANDONED = 86400


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of a value that JSON can represent. It is the same on any computer."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_digest(folder: Path) -> str:
    """Return the SHA-256 (hex) of the names, modes and bytes of the files below a folder, without `__pycache__`."""
    rows = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            rows.append((str(path.relative_to(folder)), oct(path.stat().st_mode & 0o111), file_digest(path)))
    return digest(rows)


def end(path: Path, start: int = 0) -> str:
    """Return the last END bytes of a file as text, or what follows after `start` bytes, if that is less."""
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - END, start))
        return stream.read(END).decode(errors="replace")


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turn an OSError about a full or read-only disk into SpaceError or PlaceError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpaceError(
                f"The disk that holds {path} is full",
                "Free some space, or set BAKE_CACHE to a folder on another disk.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
            raise PlaceError(
                f"{error.filename or path} cannot be written: {error.strerror}",
                "Change its owner, or set BAKE_CACHE to a folder that you can write to.",
            ) from error
        raise


def require_space(folder: Path, size: int) -> None:
    """Raise SpaceError unless the disk that holds `folder` has `size` bytes free."""
    with disk_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size:
        raise SpaceError(
            f"{folder} has {free / 1e9:.1f} GB of free space; bake needs {size / 1e9:.1f} GB",
            "Free some space, or set BAKE_CACHE to a folder on another disk.",
        )


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or a folder, and rename it to `path` when the block succeeds.

    The temporary path is on the same disk, and no other process uses it. The rename replaces an existing file or
    folder. A process that is killed leaves its temporary path; a later output of the same name removes it after a day.
    """
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partials(path.parent, path.name, ABANDONED)
        partial = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
        try:
            yield partial
            for file in [partial, *partial.rglob("*")] if partial.is_dir() else [partial]:
                if file.is_file():
                    with file.open("rb") as stream:
                        os.fsync(stream.fileno())
            _replace(partial, path)
            sync_folder(path.parent)
        except BaseException:
            remove(partial)
            raise


def _replace(partial: Path, path: Path) -> None:
    """Rename a file or a folder to `path`, also if another process makes the same output at the same time."""
    while True:
        try:
            partial.replace(path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR):
                raise
            remove(path)


def remove_partials(folder: Path, name: str = "*", age: float = 0) -> None:
    """Remove partial outputs of a name in a folder that are at least `age` seconds old."""
    # glob would take the brackets in a name as a pattern.
    for partial in folder.glob(".*.partial"):
        stem = partial.name[1:].removesuffix(".partial").rpartition(".")[0]
        with suppress(FileNotFoundError):
            if name in ("*", stem) and time.time() - partial.lstat().st_mtime >= age:
                remove(partial)


def write(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_output(path) as partial:
        partial.write_text(text)


def copy(source: Path, path: Path) -> None:
    """Copy a file atomically, and keep its holes."""
    with atomic_output(path) as partial:
        run(["cp", "--sparse=always", "--reflink=auto", source, partial])


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            # Another process removes it, too.
            shutil.rmtree(path, ignore_errors=True)
        except PermissionError:
            # The files of a Debian tree belong to ids that this user has only inside a user namespace.
            run([*as_root(), "rm", "-rf", path])
    else:
        path.unlink(missing_ok=True)
