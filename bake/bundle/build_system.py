"""Read from a source how it is built (PEP 517 and 518), without running any of its code."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bake.errors import WheelError
from bake.host import foreign_text

#: What pip installs for sources without pyproject.toml (PEP 518).
DEFAULT = ("setuptools>=40.8.0", "wheel")
#: Build requirements that compile Rust, whose compiler fetches packages from the network.
RUST_TOOLS = {"maturin", "setuptools-rust"}
#: The largest pyproject.toml in bytes that bake reads.
LARGEST = 1 << 20


def build_requirements(source: Path) -> tuple[str, ...]:
    """Return the build requirements in a source's pyproject.toml, or the default ones.

    Raises WheelError for an archive that cannot be read, and for requirements that are not on an index.
    """
    try:
        text = _zip_text(source) if source.suffix == ".zip" else _tar_text(source)
        requires = foreign_text.from_toml(text).get("build-system", {}).get("requires", DEFAULT)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, ValueError) as error:
        raise WheelError(
            f"The source {source.name} cannot be read: {error}", "Require another version, or another package."
        ) from None
    return tuple(_requirement(str(text), source) for text in requires)


def rust_tool(requirements: Sequence[str]) -> str:
    """Return the one of RUST_TOOLS that is among these build requirements, or ""."""
    names = {canonicalize_name(Requirement(text).name) for text in requirements}
    return next(iter(sorted(names & RUST_TOOLS)), "")


def _requirement(text: str, source: Path) -> str:
    """Return a build requirement. Raises WheelError for anything but a name with versions: uv would obey options."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        requirement = None
    if requirement is None or requirement.url:
        raise WheelError(
            f"The source {source.name} needs {text!r} for its build, which is no release on the index",
            "Require another version, or another package.",
        )
    return str(requirement)


def _is_project_file(name: str) -> bool:
    """Return whether a path in an archive is NAME-VERSION/pyproject.toml."""
    parts = [part for part in PurePosixPath(name).parts if part != "."]
    return len(parts) == 2 and parts[1] == "pyproject.toml"


def _tar_text(source: Path) -> str:
    with tarfile.open(source) as tar:
        for member in tar:
            if member.isfile() and member.size <= LARGEST and _is_project_file(member.name):
                stream = tar.extractfile(member)
                assert stream is not None
                return stream.read().decode()
    return ""


def _zip_text(source: Path) -> str:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            if info.file_size <= LARGEST and _is_project_file(info.filename):
                return archive.read(info).decode()
    return ""
