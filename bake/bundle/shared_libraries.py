"""Find the shared libraries that wheels expect from the system, and the Debian packages that provide them.

A manylinux wheel contains its libraries, except those that every Linux distribution
should have (the profiles of PEP 600). A server without a desktop lacks about half of them.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path, PurePosixPath

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from bake.config.debian import Target
from bake.errors import WheelError

#: Libraries on every machine: those of the C library, and those that Python and nginx need.
PRESENT = re.compile(
    r"lib(c|m|dl|pthread|rt|util|resolv|anl|mvec|BrokenLocale|thread_db|nss_\w+)\.so\.\d|ld-linux.*|linux-vdso.*"
    r"|lib(gcc_s|stdc\+\+|z|crypt|crypto|ssl|ffi|expat|lzma|bz2|uuid|sqlite3|ncursesw|tinfo|readline|nsl|tirpc)\.so\.\d.*"
)
#: Debian 13's package by library. In Debian 12, the package names have no t64.
PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libICE.so.6": "libice6",
    "libSM.so.6": "libsm6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
    "libcairo.so.2": "libcairo2",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libgio-2.0.so.0": "libglib2.0-0t64",
    "libglib-2.0.so.0": "libglib2.0-0t64",
    "libgobject-2.0.so.0": "libglib2.0-0t64",
    "libgomp.so.1": "libgomp1",
    "libgthread-2.0.so.0": "libglib2.0-0t64",
    "libmagic.so.1": "libmagic1t64",
    "libmariadb.so.3": "libmariadb3",
    "libpango-1.0.so.0": "libpango-1.0-0",
    "libpq.so.5": "libpq5",
    "libxcb.so.1": "libxcb1",
    "libxml2.so.2": "libxml2",
    "libxslt.so.1": "libxslt1.1",
}


def expected(wheels: list[Path]) -> dict[str, str]:
    """Return the libraries that are neither in a wheel nor on every machine, with the wheel that needs each."""
    carried: set[str] = set()
    wanted: dict[str, str] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if re.search(r"\.so(\.|$)", name):
                    carried.add(PurePosixPath(name).name)
                    for library in _needed(archive.read(name)):
                        wanted.setdefault(library, wheel.name.partition("-")[0])
    return {
        library: wheel
        for library, wheel in sorted(wanted.items())
        if library not in carried and not PRESENT.fullmatch(library)
    }


def _needed(content: bytes) -> list[str]:
    """Return the libraries that an ELF file needs (DT_NEEDED), or [] for another file."""
    try:
        section = ELFFile(io.BytesIO(content)).get_section_by_name(".dynamic")
    except ELFError:
        return []
    if not isinstance(section, DynamicSection):
        return []
    return [tag.needed for tag in section.iter_tags("DT_NEEDED")]  # type: ignore[attr-defined]


def require(libraries: dict[str, str], packages: tuple[str, ...], target: Target) -> list[str]:
    """Raise WheelError with the packages missing in `packages`. Return the libraries without a known package."""
    known = {library: PACKAGES[library] for library in libraries if library in PACKAGES}
    if target.python < (3, 13):
        known = {library: package.removesuffix("t64") for library, package in known.items()}
    lacking = {library: package for library, package in known.items() if package not in packages}
    if lacking:
        wheels = sorted({libraries[library] for library in lacking})
        told = (f"{wheel} needs {', '.join(one for one in lacking if libraries[one] == wheel)}" for wheel in wheels)
        names = list(dict.fromkeys([*packages, *lacking.values()]))
        raise WheelError(
            f"{'; '.join(told)}, which no wheel contains", f"Add to bake.yaml: `packages: [{', '.join(names)}]`."
        )
    return [f"{library} for {wheel}" for library, wheel in libraries.items() if library not in PACKAGES]
