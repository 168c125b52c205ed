"""Keep the wheels that bake built in the cache: by their inputs, and by the SHA-256 that a lock has.

`built/<sha256>/` has a wheel. `built/<key>.json`, where the key is the digest of the inputs, and
`built/<sha256>/manifest.json` describe it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename

from bake.host import cache, paths
from bake.host.files import atomic_output, file_digest


@dataclass(frozen=True)
class BuiltWheel:
    """A wheel that bake built. `libraries` are those that it expects from the machine, with their Debian packages.

    `created` is in seconds since the epoch.
    """

    name: str
    sha256: str
    created: float
    libraries: dict[str, str]

    @property
    def project(self) -> str:
        """Return the normalized name of the wheel's project."""
        return parse_wheel_filename(self.name)[0]

    @property
    def version(self) -> str:
        """Return the wheel's version."""
        return str(parse_wheel_filename(self.name)[1])

    @property
    def path(self) -> Path:
        """Return the wheel's path in the cache."""
        return _folder() / self.sha256 / self.name


def _folder() -> Path:
    return paths.cache() / "built"


def keep(wheel: Path, key: str, created: float, libraries: dict[str, str]) -> BuiltWheel:
    """Move a wheel to the cache. `key` is the digest of its inputs."""
    built = BuiltWheel(wheel.name, file_digest(wheel), created, libraries)
    values = json.dumps(
        {"name": built.name, "sha256": built.sha256, "created": built.created, "libraries": built.libraries}
    )
    with atomic_output(built.path) as partial:
        wheel.replace(partial)
    cache.keep(built.path.parent / "manifest.json", values)
    cache.keep(_folder() / f"{key}.json", values)
    return built


def find(key: str) -> BuiltWheel | None:
    """Return the wheel with this digest of its inputs, or None."""
    built = _read(_folder() / f"{key}.json")
    return built if built and built.path.is_file() else None


def of_hashes(hashes: Iterable[str]) -> list[BuiltWheel]:
    """Return the wheels among the files with these SHA-256 digests that bake built."""
    return [wheel for value in sorted(hashes) if (wheel := _read(_folder() / value / "manifest.json"))]


def _read(manifest: Path) -> BuiltWheel | None:
    kept = cache.kept(manifest)
    return BuiltWheel(**json.loads(kept)) if kept else None


def any_compiled(hashes: Iterable[str]) -> bool:
    """Return whether bake built a wheel with machine code among the files with these SHA-256 digests."""
    return any(not wheel.name.endswith("-any.whl") for wheel in of_hashes(hashes))
