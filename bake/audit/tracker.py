"""Find known vulnerabilities of Debian packages in the data of Debian's security tracker."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from bake.audit.finding import Finding, Kind
from bake.errors import AdvisoryError, NetworkError, ToolError
from bake.host import foreign_text, paths
from bake.host.download import download
from bake.host.programs import run, which

#: All vulnerabilities of Debian's source packages, as JSON. Its format is described in the tracker's documentation.
ADDRESS = "https://security-tracker.debian.org/tracker/data/json"
#: The urgency of a vulnerability that does not affect Debian's binary packages.
UNIMPORTANT = "unimportant"
#: A machine keeps the previous kernel. Only the newest one counts, because the next boot starts it.
KERNEL = "linux"

Sources = Mapping[str, tuple[str, ...]]


class _Entry(NamedTuple):
    """The tracker's entry of a vulnerability, for one Debian version."""

    source: str
    id: str
    values: Mapping[str, Any]


def find(
    sources: Sources, suite: str, address: str, work: Path, progress: Callable[[float], None] = lambda share: None
) -> list[Finding]:
    """Return the vulnerabilities of source packages in a Debian version.

    `address` is the URL of the tracker's data. Raises AdvisoryError if it cannot be fetched or read.
    """
    entries = list(_entries(sources, suite, _fetch(address, work, progress)))
    older = _older(
        (version, entry.values["fixed_version"])
        for entry in entries
        if "fixed_version" in entry.values
        for version in sources[entry.source]
    )
    return [finding for entry in entries for finding in _findings(entry, sources[entry.source], older)]


def _fetch(address: str, work: Path, progress: Callable[[float], None]) -> Mapping[str, Any]:
    copy = work / "tracker.json"
    try:
        if address.startswith("file:"):
            copy = Path(unquote(urlsplit(address).path))
        else:
            download(address, copy, "sha256", progress)
        data = foreign_text.from_json(copy.read_bytes())
        if isinstance(data, dict):
            return data
        problem = "it is not a JSON object"
    except NetworkError as error:
        problem = error.message
    except (OSError, ValueError) as error:
        problem = str(error)
    raise AdvisoryError(
        "The data of Debian's security tracker cannot be fetched, so nothing is known about the Debian packages",
        "Check the network and the address, and run the command again.",
        f"{address}: {problem}",
    )


def _entries(sources: Sources, suite: str, data: Mapping[str, Any]) -> Iterator[_Entry]:
    """Yield the entries for the source packages. Raises AdvisoryError if the data has none for the Debian version."""
    try:
        if not any(suite in entry["releases"] for entries in data.values() for entry in entries.values()):
            raise AdvisoryError(
                f"The data of Debian's security tracker has nothing about {suite}", "Use a supported Debian version."
            )
        for source in sources:
            for name, entry in data.get(source, {}).items():
                if suite in entry["releases"]:
                    values = dict(entry["releases"][suite])
                    if not re.fullmatch(r"\S*", values.get("fixed_version", "")):
                        raise TypeError("a version with spaces")
                    yield _Entry(source, name, values)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AdvisoryError(
            "The data of Debian's security tracker has an unknown format", "Update bake, or report it."
        ) from None


def _older(pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the pairs of versions whose first one is older. dpkg itself compares them. Raises ToolError without it."""
    if which("dpkg") is None:
        raise ToolError(
            "dpkg, which compares Debian's versions, is not installed, so nothing is known about the Debian packages",
            "Install it, or audit on Debian or Ubuntu.",
        )
    lines = "".join(f"{version} {fixed}\n" for version, fixed in sorted({*pairs}))
    result = run(["sh", paths.tree() / "cloud-init" / "audit" / "older.sh"], stdin=lines)
    return {(version, fixed) for version, fixed in map(str.split, result.stdout.splitlines())}


def _findings(entry: _Entry, versions: tuple[str, ...], older: set[tuple[str, str]]) -> Iterator[Finding]:
    fixed = entry.values.get("fixed_version")
    if fixed is None:
        if entry.values.get("status") != "resolved" and entry.values.get("urgency") != UNIMPORTANT:
            yield Finding(Kind.DEBIAN, entry.source, " ".join(versions), entry.id)
        return
    vulnerable = [version for version in versions if (version, fixed) in older]
    if vulnerable and (entry.source != KERNEL or len(vulnerable) == len(versions)):
        yield Finding(Kind.DEBIAN, entry.source, " ".join(vulnerable), entry.id, (), (fixed,))
