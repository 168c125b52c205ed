"""Find the shared libraries that wheels expect from the system, and the Debian packages that provide them.

A manylinux wheel contains its libraries, except those that every Linux distribution
should have (the profiles of PEP 600). A server without a desktop lacks about half of them.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path, PurePosixPath

from bake.config.debian import DEBIAN_12, Target
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


def required_libraries(wheels: list[Path]) -> dict[str, str]:
    """Return the libraries that are neither in a wheel nor on every machine, with the wheel that needs each."""
    wheel_libraries: set[str] = set()
    wheel_names: dict[str, str] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if re.search(r"\.so(\.|$)", name):
                    wheel_libraries.add(PurePosixPath(name).name)
                    for library in _needed_libraries(archive.read(name)):
                        wheel_names.setdefault(library, wheel.name.partition("-")[0])
    return {
        library: wheel
        for library, wheel in sorted(wheel_names.items())
        if library not in wheel_libraries and not PRESENT.fullmatch(library)
    }


def _needed_libraries(content: bytes) -> list[str]:
    """Return the libraries that an ELF file needs (DT_NEEDED), or [] for another file."""
    # Only wheels that are new in the cache need this import, which is a tenth of all those of `bake render`.
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    try:
        section = ELFFile(io.BytesIO(content)).get_section_by_name(".dynamic")
    except ELFError:
        return []
    if not isinstance(section, DynamicSection):
        return []
    return [tag.needed for tag in section.iter_tags("DT_NEEDED")]  # type: ignore[attr-defined]


def require(libraries: dict[str, str], packages: tuple[str, ...], target: Target) -> list[str]:
    """Raise WheelError with the packages missing in `packages`. Return the libraries without a known package."""
    known_packages = {library: PACKAGES[library] for library in libraries if library in PACKAGES}
    if target.suite == DEBIAN_12.suite:
        known_packages = {library: package.removesuffix("t64") for library, package in known_packages.items()}
    missing_packages = {library: package for library, package in known_packages.items() if package not in packages}
    if missing_packages:
        wheels = sorted({libraries[library] for library in missing_packages})
        sentences = (
            f"{wheel} needs {', '.join(library for library in missing_packages if libraries[library] == wheel)}"
            for wheel in wheels
        )
        names = list(dict.fromkeys([*packages, *missing_packages.values()]))
        raise WheelError(
            f"{'; '.join(sentences)}, which no wheel contains", f"Add to bake.yaml: `packages: [{', '.join(names)}]`."
        )
    return [f"{library} for {wheel}" for library, wheel in libraries.items() if library not in PACKAGES]
