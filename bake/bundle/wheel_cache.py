"""Fetch the wheels of a lock into the cache, and verify them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bake.bundle import shared_libraries
from bake.bundle.built_wheels import built_folder
from bake.bundle.lock import Lock, blocks
from bake.bundle.package_index import PIP, index_env, not_fetched
from bake.bundle.wheel_contents import require_safe
from bake.config.debian import Target
from bake.config.recipe import Recipe
from bake.errors import ProgramError, WheelError
from bake.host import cache, paths
from bake.host.files import digest, disk_faults, file_digest, write
from bake.host.programs import run


def wheel_platforms(target: Target) -> list[str]:
    """Return the platform tags that fit the target, newest first. pip needs each older manylinux tag explicitly."""
    tags = [f"manylinux_{target.glibc[0]}_{minor}_x86_64" for minor in range(target.glibc[1], 4, -1)]
    return [*tags, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]


def download_argv(target: Target) -> list[str]:
    """Return pip's command that downloads the wheels of lock.txt to wheels/. cp3xx includes the abi3 and none tags."""
    options = "--quiet --no-input --no-deps --require-hashes --only-binary=:all: --implementation=cp"
    place = [f"--python-version={target.python_version}", "--abi=cp{}{}".format(*target.python)]
    platforms = [f"--platform={tag}" for tag in wheel_platforms(target)]
    files = ["--requirement=lock.txt", "--dest=wheels", f"--find-links={built_folder()}"]
    return [sys.executable, "-m", "pip", "download", *options.split(), *place, *platforms, *files]


def wheels(lock: Lock, target: Target, recipe: Recipe) -> list[Path]:
    """Return the lock's wheels in the cache, sorted by name. Fetch them unless all are there.

    Raises NetworkError, and WheelError for a wheel that does not fit the target or the lock.
    """
    folder, index = paths.cache() / "wheels", _index(lock, target)
    if index.exists():
        rows = json.loads(index.read_text())["wheels"]
        if all(_seen(folder / name) == row for name, row in rows.items()):
            return [folder / name for name in rows]
    with cache.work_folder() as work:
        (work / "wheels").mkdir()
        (work / "lock.txt").write_text(lock.text)
        try:
            run(download_argv(target), cwd=work, env={**PIP, **index_env(recipe)})
        except ProgramError as error:
            raise not_fetched(error, target) from None
        found = sorted((work / "wheels").iterdir())
        verify(found, lock)
        with disk_faults(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for wheel in found:
                kept = folder / wheel.name
                # Another app may use the same wheel. If this one replaced it, that app's wheels would seem changed.
                if not kept.exists() or file_digest(kept) != file_digest(wheel):
                    wheel.replace(kept)
    fetched = [folder / wheel.name for wheel in found]
    facts = {"wheels": {path.name: _seen(path) for path in fetched}, "expects": shared_libraries.expected(fetched)}
    write(index, json.dumps(facts))
    return fetched


def expects(lock: Lock, target: Target) -> dict[str, str]:
    """Return what `shared_libraries.expected` found in the fetched wheels of a lock."""
    found: dict[str, str] = json.loads(_index(lock, target).read_text())["expects"]
    return found


def _index(lock: Lock, target: Target) -> Path:
    return paths.cache() / "wheels" / f"{digest([lock.text, target.python, target.glibc, 'expects'])}.json"


def _seen(path: Path) -> list[int]:
    """Return a file's size and time, which show a change. `pack` verifies the content."""
    if not path.exists():
        return []
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def verify(found: list[Path], lock: Lock) -> None:
    """Raise WheelError unless the wheels are exactly those of the lock, and each one is safe to unpack."""
    allowed = lock.hashes
    strange = [wheel.name for wheel in found if file_digest(wheel) not in allowed]
    if strange or len(found) != len(blocks(lock.text)):
        raise WheelError(
            f"The wheels differ from the lock: {', '.join(strange) or f'the number of files is {len(found)}'}",
            f"Remove {paths.cache() / 'wheels'} and bake again.",
        )
    for wheel in found:
        require_safe(wheel)
