"""Check that the files of other tools have the tables, lists and texts of their formats, before bake reads them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from packaging.version import Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from bake.app import file_lines
from bake.errors import RequirementError

Table = dict[str, Any]
Texts = list[str]


def _version(text: str) -> str:
    Version(text)
    return text


VersionText = Annotated[str, AfterValidator(_version)]


class Shape(BaseModel):
    """A table with the keys that bake reads. A default stands for a missing key; other keys are not checked."""

    # bake reads few of these files, so a shape is built only when it is needed.
    model_config = ConfigDict(strict=True, defer_build=True, alias_generator=lambda name: name.replace("_", "-"))


class Source(Shape):
    """A package index."""

    url: str = ""


class Project(Shape):
    """The table [project]."""

    name: str = ""
    version: str = ""
    requires_python: str = ""
    dependencies: Texts = []
    dynamic: Texts = []
    scripts: dict[str, str] = {}
    entry_points: dict[str, dict[str, str]] = {}
    optional_dependencies: dict[str, Texts] = {}


class ToolTable(Shape):
    """The table of one tool below [tool]: Poetry, uv, PDM or setuptools."""

    name: str = ""
    version: str = ""
    dependencies: Table = {}
    scripts: Table = {}
    source: list[Source] = []
    index: list[Source] = []
    sources: Table = {}
    dynamic: Table = {}


class Tools(Shape):
    """The table [tool]."""

    poetry: ToolTable | None = None
    uv: ToolTable | None = None
    pdm: ToolTable | None = None
    setuptools: ToolTable | None = None


class Pyproject(Shape):
    """pyproject.toml."""

    project: Project | None = None
    dependency_groups: dict[str, list[Any]] = {}
    tool: Tools | None = None


class PipenvPackage(Shape):
    """A package in Pipfile or Pipfile.lock."""

    version: str = ""
    hashes: Texts = []
    extras: Texts = []
    markers: str = ""
    git: str = ""
    ref: str = ""
    subdirectory: str = ""
    path: str = ""
    file: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_version(cls, value: object) -> object:
        return {"version": value} if isinstance(value, str) else value


class Pipfile(Shape):
    """Pipfile."""

    packages: dict[str, PipenvPackage] = {}
    source: list[Source] = []
    requires: Table = {}


class PipfileLock(Shape):
    """Pipfile.lock."""

    default: dict[str, PipenvPackage]


class File(Shape):
    """A file of a locked package."""

    hash: str


class LockedPackage(Shape):
    """A package in poetry.lock or pdm.lock."""

    name: str
    version: VersionText
    python_versions: str = ""
    requires_python: str = Field("", alias="requires_python")
    files: list[File] = []
    source: Table = {}


class ProjectLock(Shape):
    """poetry.lock or pdm.lock."""

    package: list[LockedPackage] = []


class Artifact(Shape):
    """A wheel or an sdist in pylock.toml."""

    hashes: dict[str, str]


class Vcs(Shape):
    """A repository in pylock.toml."""

    type: str
    commit_id: str


class Place(Shape):
    """An archive or a folder in pylock.toml."""

    url: str = ""
    path: str = ""


class PylockPackage(Shape):
    """A package in pylock.toml."""

    name: str
    version: VersionText = "0"
    marker: str = ""
    wheels: list[Artifact] = []
    sdist: Artifact | None = None
    vcs: Vcs | None = None
    archive: Place | None = None
    directory: Place | None = None


class Pylock(Shape):
    """pylock.toml (PEP 751)."""

    packages: list[PylockPackage] = []
    default_groups: Texts = []


#: The shape of each file, and the next step for one with another shape.
SHAPES: dict[str, tuple[type[Shape], str]] = {
    "pyproject.toml": (Pyproject, "Correct that value."),
    "Pipfile": (Pipfile, "Correct that value."),
    "Pipfile.lock": (PipfileLock, "Run `pipenv lock` there."),
    "poetry.lock": (ProjectLock, "Run `poetry lock` there."),
    "pdm.lock": (ProjectLock, "Run `pdm lock` there."),
    "pylock.toml": (Pylock, "Lock the requirements again."),
}


#: The name of a lock file for one of several uses (PEP 751).
NAMED_PYLOCK = re.compile(r"pylock\.[^.]+\.toml")


def format_name(name: str) -> str:
    """Return the usual name of a file's format: pylock.toml for pylock.web.toml, and otherwise the same name."""
    return "pylock.toml" if NAMED_PYLOCK.fullmatch(name) else name


def require(content: Any, name: str, text: str) -> None:
    """Raise RequirementError with all faults, unless the content of a file has the shape that its name asks for.

    `text` is the text of the file.
    """
    shape, hint = SHAPES[format_name(name)]
    try:
        shape.model_validate(content)
    except ValidationError as error:
        first, *others = (
            f"{name}:{_line(text, fault)}: {'.'.join(map(str, fault['loc'])) or 'the file'}: "
            f"{fault['msg'].partition(' or instance')[0]}"
            for fault in error.errors()
        )
        raise RequirementError(first, hint, "\n".join(others)) from None


def _line(text: str, fault: ErrorDetails) -> int:
    """Return the line of a wrong value, or that of the table that lacks one."""
    keys = fault["loc"]
    return file_lines.of_key(text, keys[:-1] if fault["type"] == "missing" else keys)
