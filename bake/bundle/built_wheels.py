"""Build wheels for packages that have none. This runs a package's code, and the result must be pure Python."""

from __future__ import annotations

import sys
from pathlib import Path

from bake.bundle.package_index import NO_NETWORK, PIP, TRACEBACK, fetch_error, index_env
from bake.config.debian import Target
from bake.errors import ProgramError, WheelError
from bake.host import paths
from bake.host.files import atomic_output, file_digest
from bake.host.programs import run

NO_WHEEL_HINT = (
    "Allow another version, use a package that has wheels (for example psycopg2-binary instead of psycopg2), or upload "
    "a wheel to a package `index`."
)


def build(entry: str, index: str | None, target: Target, work: Path) -> str:
    """Build a wheel for a package that has none, and return its entry for the lock. `index` is that of bake.yaml."""
    pin = entry.split(maxsplit=1)[0]
    (work / "source.txt").write_text(entry)
    try:
        # A reproducible wheel: the cache must recognize an app that has not changed.
        run(
            build_argv(pin.partition("==")[0]),
            cwd=work,
            env={**PIP, **index_env(index), "SOURCE_DATE_EPOCH": "315532800"},
        )
    except ProgramError as error:
        if NO_NETWORK.search(error.details):
            raise fetch_error(error, target) from None
        raise WheelError(
            f"{pin} has no wheel, and building one from source failed",
            NO_WHEEL_HINT,
            TRACEBACK.sub("", error.details),
        ) from None
    (wheel,) = (work / "built").iterdir()
    if not wheel.name.endswith("-none-any.whl"):
        raise WheelError(
            f"{pin} has no wheel, and is not pure Python: a wheel built here would not fit other systems",
            NO_WHEEL_HINT,
        )
    digest = file_digest(wheel)
    with atomic_output(built_folder() / wheel.name) as partial:
        wheel.replace(partial)
    return f"{pin} \\\n    --hash=sha256:{digest}\n"


def built_folder() -> Path:
    """Return the folder of the cache with the wheels that bake built."""
    return paths.cache() / "built"


def is_built(wheel: str) -> bool:
    """Return whether bake built this wheel, because the index has none."""
    return (built_folder() / wheel).exists()


def build_argv(name: str) -> list[str]:
    """Return pip's command that builds a wheel of the package in source.txt in built/."""
    options = f"--quiet --no-input --no-deps --require-hashes --no-binary={name}"
    files = ["--requirement=source.txt", "--wheel-dir=built"]
    return [sys.executable, "-m", "pip", "wheel", *options.split(), *files]
