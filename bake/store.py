"""Digests, the lock, the cache, and outputs that appear whole or not at all.

Layout of the cache:
  base/<key>/      a base disk and what it is made of
  image/<key>/     a finished image and its manifest
  locks/<key>.txt  resolved requirements
  wheels/          wheels by file name
  work/<random>/   one running command's scratch; its `alive` file is flocked while it runs

A crash, a power cut or kill -9 leaves work folders that nobody locks: the next
start removes them. Everything else is written beside its name and renamed.
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
from pathlib import Path
from typing import Any

from bake import places
from bake.errors import PlaceError, SpaceError
from bake.run import as_root, run

CHUNK = 1 << 20
#: Kept in the cache, least recently used first out. Bytes.
CACHE_BOUND = 20 * 1024**3


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value, the same for the same value on any machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_digest(folder: Path) -> str:
    """SHA-256 (hex) over names, modes and bytes of the files below a folder; caches do not count."""
    rows = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            rows.append((str(path.relative_to(folder)), oct(path.stat().st_mode & 0o111), file_digest(path)))
    return digest(rows)


def age_days(moment: float) -> float:
    """Days since a moment given in seconds since the epoch."""
    return (time.time() - moment) / 86400


@contextmanager
def disk_faults(where: Path) -> Iterator[None]:
    """Turn the system's words about a full or closed disk into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpaceError(
                f"The disk that holds {where} is full", "Free some room, or set BAKE_CACHE to a folder on another disk."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise PlaceError(
                f"{error.filename or where} cannot be written: {error.strerror}",
                "Change its owner, or set BAKE_CACHE to a folder of yours.",
            ) from error
        raise


def require_space(where: Path, needed: int) -> None:
    """Raise SpaceError unless the disk that holds `where` has `needed` bytes free."""
    with disk_faults(where):
        where.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(where).free
    if free < needed:
        raise SpaceError(
            f"{where} has {free / 1e9:.1f} GB free; this needs {needed / 1e9:.1f} GB",
            "Free some room, or set BAKE_CACHE to a folder on another disk.",
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
    """Yield a path to write a file or a folder at; it takes the name `final` only when all went well.

    The path is on the same disk as `final`. What stood at `final` is replaced.
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
    """Write a text file whole or not at all."""
    with whole(final) as partial:
        partial.write_text(text)


def copy(source: Path, final: Path) -> None:
    """Copy a file whole or not at all, keeping its holes."""
    with whole(final) as partial:
        run(["cp", "--sparse=always", "--reflink=auto", source, partial])


def remove(path: Path) -> None:
    """Remove a file or a folder; one that is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except PermissionError:
            # A Debian tree's files belong to ids that are ours only inside a user namespace.
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
    """Hold the cache's lock. `waiting` is told the other's pid, once, if there is another.

    The kernel drops the lock with the process, however that ends: it can never be stale.
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
        # Entries that were not finished: nobody else is at work on one now.
        for kind in ("base", "image", "locks"):
            for partial in (places.cache() / kind).glob(".*.partial"):
                remove(partial)
    try:
        yield
    finally:
        os.close(handle)


def reap() -> None:
    """Remove the work folders of commands that are no longer alive."""
    work = places.cache() / "work"
    for folder in work.iterdir() if work.is_dir() else ():
        handle = _try_lock(folder / "alive") if folder.is_dir() else None
        if handle is not None:
            remove(folder)
            os.close(handle)


@contextmanager
def work_folder() -> Iterator[Path]:
    """Scratch space that goes when the block ends, or at the next start if we are killed."""
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
    """Drop the least recently used bases and images until the cache holds at most `bound` bytes on disk."""
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
