"""Compute digests, lock and trim the cache, and write outputs atomically.

Layout of the cache:
  base/<key>/      a base disk and its manifest
  image/<key>/     a finished image and its manifest
  locks/<key>.txt  resolved requirements
  wheels/          wheels by file name
  work/<random>/   the scratch space of a running command, which holds a lock on its `alive` file

A crash, a power cut or kill -9 leaves work folders without a lock: the next
start removes them. Everything else is written to a temporary name and renamed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bake import places
from bake.errors import PlaceError, SpaceError
from bake.run import as_root, run

CHUNK = 1 << 20
#: Maximum size of the cache in bytes. The least recently used entries are removed first.
CACHE_BOUND = 20 * 1024**3


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


def age_days(moment: float) -> float:
    """Return the days since a moment, which is in seconds since the epoch."""
    return (time.time() - moment) / 86400


@dataclass(frozen=True)
class Age:
    """How old something in the cache may be, in days; with `refresh`, nothing there counts."""

    days: float = 7.0
    refresh: bool = False

    def admits(self, moment: float) -> bool:
        """Return whether something that was made at a moment, in seconds since the epoch, is young enough."""
        return not self.refresh and age_days(moment) < self.days

    def admits_file(self, path: Path) -> bool:
        """Return whether a file exists and is young enough."""
        return path.exists() and self.admits(path.stat().st_mtime)


A_WEEK = Age()


@contextmanager
def disk_faults(where: Path) -> Iterator[None]:
    """Turn an OSError about a full or read-only disk into SpaceError or PlaceError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpaceError(
                f"The disk that holds {where} is full",
                "Free some space, or set BAKE_CACHE to a folder on another disk.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise PlaceError(
                f"{error.filename or where} cannot be written: {error.strerror}",
                "Change its owner, or set BAKE_CACHE to a folder that you can write to.",
            ) from error
        raise


def require_space(where: Path, needed: int) -> None:
    """Raise SpaceError unless the disk that holds `where` has `needed` bytes free."""
    with disk_faults(where):
        where.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(where).free
    if free < needed:
        raise SpaceError(
            f"{where} has {free / 1e9:.1f} GB of free space; bake needs {needed / 1e9:.1f} GB",
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
def whole(final: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or a folder, and rename it to `final` when the block succeeds.

    The path is on the same disk as `final`. An existing `final` is replaced.
    """
    with disk_faults(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.parent / f".{final.name}.partial"
        remove(partial)
        try:
            yield partial
            for path in [partial, *partial.rglob("*")] if partial.is_dir() else [partial]:
                if path.is_file():
                    with path.open("rb") as stream:
                        os.fsync(stream.fileno())
            if final.is_dir():
                remove(final)
            partial.rename(final)
            sync_folder(final.parent)
        except BaseException:
            remove(partial)
            raise


def write(final: Path, text: str) -> None:
    """Write a text file atomically."""
    with whole(final) as partial:
        partial.write_text(text)


def copy(source: Path, final: Path) -> None:
    """Copy a file atomically, and keep its holes."""
    with whole(final) as partial:
        run(["cp", "--sparse=always", "--reflink=auto", source, partial])


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except PermissionError:
            # The files of a Debian tree belong to ids that this user has only inside a user namespace.
            run([*as_root(), "rm", "-rf", path])
    else:
        path.unlink(missing_ok=True)


def _try_lock(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


@contextmanager
def only_one(waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the cache's lock. If another process holds it, call `waiting` once with its pid, then wait.

    The kernel releases the lock when the process ends, so the lock cannot be stale.
    """
    path = places.cache() / "lock"
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _try_lock(path)
        if handle is None:
            waiting(path.read_text().strip() or "unknown")
            handle = os.open(path, os.O_RDWR)
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        # Remove unfinished entries: with the lock held, no other process works on one.
        for kind in ("base", "image", "locks"):
            for partial in (places.cache() / kind).glob(".*.partial"):
                remove(partial)
    try:
        yield
    finally:
        os.close(handle)


def reap() -> None:
    """Remove the work folders of commands that no longer run."""
    work = places.cache() / "work"
    for folder in work.iterdir() if work.is_dir() else ():
        handle = _try_lock(folder / "alive") if folder.is_dir() else None
        if handle is not None:
            remove(folder)
            os.close(handle)


@contextmanager
def work_folder() -> Iterator[Path]:
    """Yield a scratch folder. It is removed when the block ends, or at the next start if bake was killed."""
    parent = places.cache() / "work"
    with disk_faults(parent):
        parent.mkdir(parents=True, exist_ok=True)
        reap()
        folder = Path(tempfile.mkdtemp(dir=parent))
    handle = _try_lock(folder / "alive")
    try:
        yield folder
    finally:
        remove(folder)
        if handle is not None:
            os.close(handle)


def touch(entry: Path) -> None:
    """Mark a cache entry as used now."""
    os.utime(entry)


def trim(bound: int = CACHE_BOUND) -> None:
    """Remove the least recently used bases and images until the cache uses at most `bound` bytes on disk."""
    entries = []
    for kind in ("base", "image"):
        folder = places.cache() / kind
        for entry in folder.iterdir() if folder.is_dir() else ():
            size = sum(path.stat().st_blocks * 512 for path in entry.rglob("*"))
            entries.append((entry.stat().st_mtime, size, entry))
    total = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries)[:-1]:
        if total <= bound:
            break
        remove(entry)
        total -= size
