"""Read and write the manifest of a base disk, `base.json` in its folder of the cache."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bake.errors import ProgramError
from bake.host import versioned_json

FILE_NAME = "base.json"
#: The version of the format.
VERSION = 1


@dataclass(frozen=True)
class BaseManifest:
    """When a base disk was made, in seconds since the epoch and as a date, and the name of its Debian release.

    `packages` has the version of each package. `security_url` is that of the security suite, and `security_index` the
    digest of its index that has no newer package. Disks from a mirror and from a cloud image have none of these.
    """

    made: float
    date: str
    release: str
    packages: Mapping[str, str] = field(default_factory=dict)
    security_url: str = ""
    security_index: str = ""

    @classmethod
    def now(cls, release: str) -> BaseManifest:
        """Return the manifest of a base disk that is made now."""
        return cls(time.time(), time.strftime("%Y-%m-%d"), release)

    @classmethod
    def read(cls, entry: Path) -> BaseManifest | None:
        """Return the manifest in a folder of the cache, or None if there is none. Raises ProgramError."""
        path = entry / FILE_NAME
        return cls.from_json(path.read_text(), str(path)) if path.is_file() else None

    @classmethod
    def from_json(cls, text: str, name: str = FILE_NAME) -> BaseManifest:
        """Return the manifest in JSON text. `name` is the file's, for errors. Raises ProgramError."""
        try:
            values = versioned_json.load(text, VERSION, name)
            return cls(
                float(values["made"]), str(values["date"]), str(values["release"]),
                versioned_json.value(values, "packages", {}), versioned_json.value(values, "security_url", ""),
                versioned_json.value(values, "security_index", ""),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise ProgramError(
                f"{name} is not the manifest of a base disk: {error}", "Remove its folder, and bake again."
            ) from None

    def to_json(self) -> str:
        """Return the manifest as JSON, as `from_json` reads it."""
        return versioned_json.dump(asdict(self), VERSION)
