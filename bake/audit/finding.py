"""Define a finding of an audit: a known vulnerability of an installed wheel or Debian package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kind of a package: a wheel, or a source package of Debian."""

    WHEEL = "wheel"
    DEBIAN = "debian"


@dataclass(frozen=True)
class Finding:
    """A vulnerability of an installed package. `fixed` are the versions without it, () if there is none yet."""

    kind: Kind
    package: str
    version: str
    id: str
    aliases: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the vulnerability's number in the CVE list, or else its id."""
        return next((name for name in (self.id, *self.aliases) if name.startswith("CVE-")), self.id)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings in a fixed order, those with a fixed version first."""
    return sorted(findings, key=lambda item: (not item.fixed, item.kind, item.package, item.version, item.name))
