"""Read the status file of dpkg, which lists the installed packages of a Debian system."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

#: A source with its version, in the fields `Source` and `Built-Using`.
SOURCE = re.compile(r"([a-z0-9][a-z0-9+.-]+) \((?:= )?([^)]+)\)")


def package_versions(status: str) -> dict[str, str]:
    """Return the version of each installed package."""
    return {fields["Package"]: fields["Version"] for fields in _installed(status)}


def source_versions(status: str) -> dict[str, tuple[str, ...]]:
    """Return the versions of each source package that installed packages were built from.

    Debian's advisories name sources. The packages of the kernel and of GRUB come from a source of their own, which has
    the signatures. Their field `Built-Using` names the source of the code.
    """
    versions: dict[str, set[str]] = defaultdict(set)
    for fields in _installed(status):
        source = fields.get("Source", fields["Package"])
        match = SOURCE.fullmatch(source)
        name, version = match.groups() if match else (source, fields["Version"])
        versions[name].add(version)
        if "-signed" in name:
            for built_name, built_version in SOURCE.findall(fields.get("Built-Using", "")):
                versions[built_name].add(built_version)
    return {name: tuple(sorted(versions[name])) for name in sorted(versions)}


def _installed(status: str) -> Iterator[Mapping[str, str]]:
    """Yield the fields of each installed package."""
    for stanza in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            yield fields
