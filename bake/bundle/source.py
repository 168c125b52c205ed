"""The source of a requirement from which bake builds a wheel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A source: of a release on the index, or of a direct reference.

    `published` is the day (YYYY-MM-DD) of its upload or commit, or "". A direct reference has no `version` but an
    `archive`, which may be a wheel. `assumed_version` is for build backends that would ask git for it.
    """

    name: str
    version: str
    url: str
    sha256: str
    published: str
    location: str = ""
    archive: Path | None = None
    assumed_version: str = ""

    @property
    def pin(self) -> str:
        """Return the requirement that admits only this source."""
        return f"{self.name}=={self.version}" if self.version else f"{self.name} @ {self.url}"
