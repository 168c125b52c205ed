"""Refuse wheels that are not safe to unpack: paths outside their folder, links, set-uid bits, zip bombs.

A wheel is a zip archive from an untrusted source. The machine also checks paths when it unpacks one.
"""

from __future__ import annotations

import configparser
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bake.errors import WheelError

#: The maximum ratio of unpacked to packed size. Deflate reaches 1,032 (zlib's technical details). Of the wheels of 41
#: popular packages in November 2026, phonenumbers had the highest ratio, 8.4.
RATIO = 100
#: The maximum unpacked size in bytes that is safe for any ratio.
HARMLESS = 64 * 1024**2
#: The folders allowed in NAME-VERSION.data (binary distribution format, "The .data directory").
SCHEMES = ("purelib", "platlib", "headers", "scripts", "data")


def require_safe(wheel: Path) -> None:
    """Raise WheelError for a wheel that cannot be read, or is not safe to unpack."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            fault = next(_faults(archive, wheel.stat().st_size), None)
    except (zipfile.BadZipFile, UnicodeDecodeError, configparser.Error) as error:
        raise WheelError(
            f"{wheel.name} cannot be read: {error}", "Build or download the wheel again, or require another version."
        ) from None
    if fault:
        raise WheelError(
            f"bake refuses to unpack {wheel.name}: {fault}",
            "Do not trust this package. Require another version, or another package.",
        )


def required_sources(wheel: Path) -> list[str]:
    """Return the requirements of a wheel that name a source (PEP 508)."""
    with zipfile.ZipFile(wheel) as archive:
        name = next((name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)), None)
        text = archive.read(name).decode(errors="replace") if name else ""
    return re.findall(r"(?m)^Requires-Dist: *([^@;\n]+@.*)", text)


def _faults(archive: zipfile.ZipFile, size: int) -> Iterator[str]:
    members = archive.infolist()
    if (unpacked_size := sum(member.file_size for member in members)) > max(HARMLESS, RATIO * size):
        yield f"its {size:,} bytes would unpack to {unpacked_size:,} bytes"
    for member in members:
        mode = member.external_attr >> 16
        if _leaves(member.filename):
            yield f"{member.filename!r} is outside its folder"
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield f"{member.filename} is a link or a device"
        if mode & (stat.S_ISUID | stat.S_ISGID):
            yield f"{member.filename} has a set-uid or set-gid bit"
        match = re.match(r"[^/]+\.data/([^/]+)", member.filename)
        if match and match[1] not in SCHEMES:
            yield f"{member.filename} is in the folder {match[1]!r}, which the wheel format does not define"
        if re.fullmatch(r"[^/]+\.dist-info/entry_points\.txt", member.filename):
            for name in _scripts(archive.read(member).decode()):
                if "/" in name:
                    yield f"its command {name!r} would be outside bin"


def _leaves(name: str) -> bool:
    """Return whether a name leads out of its destination folder, also below one of SCHEMES."""
    return name.startswith("/") or "\\" in name or "\0" in name or ".." in PurePosixPath(name).parts


def _scripts(text: str) -> list[str]:
    """Return the commands in an entry_points.txt."""
    points = configparser.ConfigParser(delimiters=["="], interpolation=None, strict=False)
    points.read_string(text)
    return [name for group in ("console_scripts", "gui_scripts") if group in points for name in points[group]]
