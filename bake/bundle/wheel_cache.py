"""Fetch the wheels of a lock into the cache, and verify them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bake.bundle import built_wheels, shared_libraries
from bake.bundle.lock import Lock, lock_entries
from bake.bundle.package_index import PIP, fetch_error, index_env
from bake.bundle.wheel_contents import require_safe
from bake.config.debian import Target
from bake.errors import ProgramError, WheelError
from bake.host import cache, paths
from bake.host.files import digest, disk_faults, file_digest
from bake.host.programs import run


def wheel_platforms(target: Target) -> list[str]:
    """Return the platform tags that fit the target, newest first. pip needs each older manylinux tag explicitly."""
    tags = [f"manylinux_{target.glibc[0]}_{minor}_x86_64" for minor in range(target.glibc[1], 4, -1)]
    return [*tags, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]


def download_argv(target: Target, folders: Sequence[Path] = ()) -> list[str]:
    """Return pip's command that downloads the wheels of lock.txt to wheels/. cp3xx includes the abi3 and none tags.

    `folders` have further wheels.
    """
    options = "--quiet --no-input --no-deps --require-hashes --only-binary=:all: --implementation=cp"
    target_options = [f"--python-version={target.python_version}", "--abi=cp{}{}".format(*target.python)]
    platforms = [f"--platform={tag}" for tag in wheel_platforms(target)]
    files = ["--requirement=lock.txt", "--dest=wheels", *(f"--find-links={folder}" for folder in folders)]
    return [sys.executable, "-m", "pip", "download", *options.split(), *target_options, *platforms, *files]


def wheels(lock: Lock, target: Target, index: str | None) -> list[Path]:
    """Return the lock's wheels in the cache, sorted by name. Fetch them from an index unless all are there.

    Raises NetworkError, and WheelError for a wheel that does not fit the target or the lock.
    """
    folder, listing = paths.cache() / "wheels", _listing(lock, target)
    if kept := cache.kept(listing):
        rows = json.loads(kept)["wheels"]
        if all(_stamp(folder / name) == row for name, row in rows.items()):
            return [folder / name for name in rows]
    with cache.work_folder() as work:
        (work / "wheels").mkdir()
        (work / "lock.txt").write_text(lock.text)
        try:
            built_folders = [wheel.path.parent for wheel in built_wheels.of_hashes(lock.hashes)]
            run(download_argv(target, built_folders), cwd=work, env={**PIP, **index_env(index)})
        except ProgramError as error:
            raise fetch_error(error, target) from None
        downloads = sorted((work / "wheels").iterdir())
        verify(downloads, lock)
        with disk_faults(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for wheel in downloads:
                cache_path = folder / wheel.name
                # Another app may use the same wheel. If this one replaced it, that app's wheels would seem changed.
                if not cache_path.exists() or file_digest(cache_path) != file_digest(wheel):
                    wheel.replace(cache_path)
    wheel_paths = [folder / wheel.name for wheel in downloads]
    values = {
        "wheels": {path.name: _stamp(path) for path in wheel_paths},
        "expects": shared_libraries.required_libraries(wheel_paths),
    }
    cache.keep(listing, json.dumps(values))
    return wheel_paths


def required_libraries(lock: Lock, target: Target) -> dict[str, str]:
    """Return the cached `shared_libraries.required_libraries` of the fetched wheels of a lock."""
    libraries: dict[str, str] = json.loads(cache.kept(_listing(lock, target)) or "{}").get("expects", {})
    return libraries


def _listing(lock: Lock, target: Target) -> Path:
    return paths.cache() / "wheels" / f"{digest([lock.text, target.python, target.glibc, 'expects'])}.json"


def _stamp(path: Path) -> list[int]:
    """Return a file's size and time, which show a change. `pack` verifies the content."""
    if not path.exists():
        return []
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def verify(wheel_files: list[Path], lock: Lock) -> None:
    """Raise WheelError unless the wheels are exactly those of the lock, and each one is safe to unpack."""
    hashes = lock.hashes
    unknown_names = [wheel.name for wheel in wheel_files if file_digest(wheel) not in hashes]
    if unknown_names or len(wheel_files) != len(lock_entries(lock.text)):
        fault = ", ".join(unknown_names) or f"the number of files is {len(wheel_files)}"
        raise WheelError(
            f"The wheels differ from the lock: {fault}", f"Remove {paths.cache() / 'wheels'} and bake again."
        )
    for wheel in wheel_files:
        require_safe(wheel)
