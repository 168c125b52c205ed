"""Compare the packages of a cached base disk with Debian's security archive, before a bake uses the disk."""

from __future__ import annotations

import hashlib
import lzma
import re
from dataclasses import replace
from pathlib import Path

from bake.disk.base_manifest import FILE_NAME, BaseManifest
from bake.errors import NetworkError
from bake.host import download, files, programs
from bake.host.progress import Reporter

#: Seconds for each of the archive's two files: a bake without network goes on.
TIMEOUT = 10
#: The largest index in bytes, unpacked. In 2026 it has 3 MB.
LARGEST = 64 * 2**20
#: The security archive's index of packages. bake makes disks for this architecture only.
INDEX = "main/binary-amd64/Packages.xz"


def url_of(sources: str) -> str:
    """Return the URL of the security suite in the text of debian.sources, or "" if there is none."""
    for stanza in sources.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        suite = fields.get("Suites", "").strip()
        if suite.endswith("-security"):
            return f"{fields['URIs'].strip().rstrip('/')}/dists/{suite}"
    return ""


def index_digest(release: str) -> str:
    """Return the SHA-256 digest of INDEX in the text of an InRelease file, or "" if there is none."""
    match = re.search(rf"^ ([0-9a-f]{{64}}) +\d+ {re.escape(INDEX)}$", release, re.M)
    return match[1] if match else ""


def outdated(index: str, installed: dict[str, str]) -> list[str]:
    """Return the names of installed packages for which the text of an index has a newer version."""
    return sorted(
        {
            name
            for name, version in re.findall(r"^Package: (\S+)$(?:\n.+)*?\nVersion: (\S+)$", index, re.M)
            if name in installed and installed[name] != version and _is_newer(version, installed[name])
        }
    )


def _is_newer(version: str, other: str) -> bool:
    return programs.run(["dpkg", "--compare-versions", version, "gt", other], check=False).status == 0


def unpack(packed: bytes) -> str:
    """Return the text of an index. Raises LZMAError if it is damaged, or unpacks to more than LARGEST."""
    unpacker = lzma.LZMADecompressor()
    text = unpacker.decompress(packed, LARGEST)
    if not unpacker.eof:
        raise lzma.LZMAError("it is damaged, or too large")
    return text.decode(errors="replace")


def covers(entry: Path, report: Reporter) -> bool:
    """Return whether the base disk in a folder of the cache has all security updates of its packages.

    If the archive does not answer, print that, and return True. Remember the index that was compared, so that the next
    bake only asks whether it has changed.
    """
    manifest = BaseManifest.read(entry)
    if manifest is None or not manifest.security_url:
        return True
    try:
        release = download.fetch(f"{manifest.security_url}/InRelease", TIMEOUT).decode(errors="replace")
        digest = index_digest(release)
        if digest == manifest.security_index:
            return True
        packed = download.fetch(f"{manifest.security_url}/{INDEX}", TIMEOUT)
        if hashlib.sha256(packed).hexdigest() != digest:
            raise NetworkError(f"{INDEX} does not have the digest in InRelease", "")
        index = unpack(packed)
    except (NetworkError, lzma.LZMAError) as error:
        message = error.message if isinstance(error, NetworkError) else str(error)
        report.note(f"the base of {manifest.date} is not compared with the security archive: {message}")
        return True
    if names := outdated(index, dict(manifest.packages)):
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
        report.note(f"the base of {manifest.date} lacks security updates of {shown}; building it again")
        return False
    files.write(entry / FILE_NAME, replace(manifest, security_index=digest).to_json())
    return True
