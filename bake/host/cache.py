"""Lock and trim the cache, decide whether its entries are young enough, and provide scratch folders.

Layout of the cache:
  assets/<key>/    the files of a front end that bake built
  base/<key>/      a base disk and its manifest
  builder/<key>/   a builder root and its manifest
  built/<sha256>/  a wheel that bake built, and its manifest; built/<key>.json names it by its inputs
  image/<key>/     a finished image and its manifest
  locks/<key>.txt  resolved requirements
  security/        the index of each Debian version's security archive, for an hour
  wheels/          wheels by file name
  work/<random>/   the scratch space of a running command, which holds a lock on its `alive` file

A crash, a power cut or kill -9 leaves work folders without a lock: the next
start removes them. Everything else is written to a temporary name and renamed.
Texts begin with their digest (`keep`), so that bake does not use a damaged one.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bake.host import paths
from bake.host.files import digest, disk_faults, remove, remove_partials, write

#: An entry is older than this only if bake was started after it was made.
_START = time.time()
#: Maximum size of the cache in bytes. The least recently used entries are removed first.
CACHE_BOUND = 20 * 1024**3


def age_days(moment: float) -> float:
    """Return the days since a moment, which is in seconds since the epoch."""
    return (time.time() - moment) / 86400


def is_from_this_run(moment: float) -> bool:
    """Return whether this process made an entry: `--refresh` then makes one, not one for each use."""
    return moment >= _START


@dataclass(frozen=True)
class Age:
    """The maximum age of an entry in the cache, in days. With `refresh`, no entry is young enough."""

    days: float = 7.0
    refresh: bool = False

    def admits(self, moment: float) -> bool:
        """Return whether an entry is young enough that was made at `moment`, in seconds since the epoch."""
        return not self.refresh and age_days(moment) < self.days

    def admits_file(self, path: Path) -> bool:
        """Return whether a file exists and is young enough."""
        return path.exists() and self.admits(path.stat().st_mtime)


A_WEEK = Age()


def keep(path: Path, text: str) -> None:
    """Write a text of the cache after a line with its digest."""
    write(path, f"{digest(text)}\n{text}")


def kept(path: Path) -> str | None:
    """Return a text that `keep` wrote, or None if it is missing or damaged."""
    try:
        written, _, text = path.read_text().partition("\n")
    except (OSError, ValueError):
        return None
    return text if written == digest(text) else None


def _try_lock(path: Path, flags: int = os.O_CREAT) -> int | None:
    handle = os.open(path, os.O_RDWR | flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


@contextmanager
def _hold(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a file. If another process holds it, call `on_wait` once with its pid, then wait.

    The kernel releases the lock when the process ends, so the lock cannot be stale.
    """
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _try_lock(path)
        if handle is None:
            on_wait(path.read_text().strip() or "unknown")
            handle = os.open(path, os.O_RDWR)
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def lock(on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the cache's lock, and remove unfinished entries: with the lock held, no other process works on one."""
    with _hold(paths.cache() / "lock", on_wait):
        # Other entries are written without this lock. Their partial files go after a day.
        for kind in ("base", "image"):
            remove_partials(paths.cache() / kind)
        yield


def builder_lock(on_wait: Callable[[str], None]) -> AbstractContextManager[None]:
    """Return a context that holds the lock of the builder roots, as `lock` does for the rest."""
    return _hold(paths.cache() / "builder" / "lock", on_wait)


def reap() -> None:
    """Remove the work folders of commands that no longer run."""
    work = paths.cache() / "work"
    if work.is_dir():
        with _alone(work):
            _reap(work)


def _reap(work: Path) -> None:
    for folder in filter(Path.is_dir, work.iterdir()):
        try:
            handle = _try_lock(folder / "alive", 0)
        except FileNotFoundError:
            # Its process removes it, or was killed before it had the lock.
            remove(folder)
        else:
            if handle is not None:
                remove(folder)
                os.close(handle)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder itself: for a moment, a new work folder has no lock that keeps it from removal."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def work_folder() -> Iterator[Path]:
    """Yield a scratch folder. It is removed when the block ends, or at the next start if bake was killed."""
    parent = paths.cache() / "work"
    with disk_faults(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with _alone(parent):
            _reap(parent)
            folder = Path(tempfile.mkdtemp(dir=parent))
            handle = _try_lock(folder / "alive")
    try:
        yield folder
    finally:
        # While this process holds its lock, no other one removes the folder.
        remove(folder)
        if handle is not None:
            os.close(handle)


def touch(entry: Path) -> None:
    """Mark a cache entry as used now."""
    os.utime(entry)


def trim(bound: int = CACHE_BOUND) -> None:
    """Remove the least recently used entries until the cache has at most `bound` bytes."""
    entries = []
    for kind in ("assets", "base", "builder", "image"):
        folder = paths.cache() / kind
        for entry in filter(Path.is_dir, folder.iterdir() if folder.is_dir() else ()):
            size = sum(path.lstat().st_blocks * 512 for path in entry.rglob("*"))
            entries.append((entry.stat().st_mtime, size, entry))
    total = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries)[:-1]:
        if total <= bound:
            break
        remove(entry)
        total -= size
