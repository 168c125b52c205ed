"""The files in which an app says what it needs, as lines that each know where they stand."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from bake.errors import RequirementError
from bake.target import Target

HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")
#: Options of a requirements file that change nothing: wheels with hashes are all we take.
IDLE_OPTIONS = re.compile(r"--(require-hashes|prefer-binary|only-binary|no-binary)\b")


@dataclass(frozen=True)
class Line:
    """A requirement, and where it stands."""

    text: str
    place: str
    name: str
    constraint: bool = False
    hashes: frozenset[str] = frozenset()


def requirement_lines(folder: Path, name: str, target: Target) -> list[Line]:
    """The requirements of a file, with those it includes. Raises RequirementError with file and line."""
    if name.endswith(".toml"):
        return _project_lines(folder / name, name, target)
    return list(_file_lines(folder, folder / name, "", False, ()))


def _read(path: Path, place: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RequirementError(f"{place or path}: {path.name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequirementError(f"{path} is not UTF-8 text", "Save it as UTF-8; PowerShell writes UTF-16.") from None


def project_table(path: Path) -> dict[str, Any]:
    """A pyproject.toml's content; nothing where there is none. Raises RequirementError."""
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(_read(path, ""))
    except tomllib.TOMLDecodeError as error:
        raise RequirementError(f"{path.name}: {error}", "Mend the TOML there.") from None


def _project_lines(path: Path, name: str, target: Target) -> list[Line]:
    text, table = _read(path, ""), project_table(path)
    project = table.get("project", {})
    wanted = project.get("requires-python", "")
    if wanted and target.python_version + ".0" not in SpecifierSet(wanted, prereleases=True):
        raise RequirementError(
            f"{name}: requires-python is {wanted!r}; {target.name} has Python {target.python_version}",
            "Allow that Python, or choose another `base` in bake.yaml.",
        )
    lines = []
    for requirement in project.get("dependencies", []):
        number = text[: text.find(requirement)].count("\n") + 1 if requirement in text else 1
        lines.append(_line(requirement, f"{name}:{number}", False))
    for source in table.get("tool", {}).get("uv", {}).get("sources", {}):
        if canonicalize_name(source) in {line.name for line in lines}:
            raise RequirementError(f"{name}: [tool.uv.sources] has {source}", "Put a wheel of it on a package `index`.")
    return lines


def _file_lines(folder: Path, path: Path, place: str, constraint: bool, above: tuple[Path, ...]) -> Iterator[Line]:
    if path in above:
        raise RequirementError(f"{place}: the file includes itself", "Take the line out.")
    here = os.path.relpath(path, folder)
    logical, start = "", 0
    for number, raw in enumerate([*_read(path, place).splitlines(), ""], 1):
        start = start if logical else number
        logical += re.sub(r"(^|\s)#.*", "", raw).strip()
        if logical.endswith("\\"):
            logical = logical[:-1] + " "
            continue
        text, logical, place = logical.strip(), "", f"{here}:{start}"
        include = re.fullmatch(r"(-r|--requirement|-c|--constraint)[= ]?\s*(.+)", text)
        if include:
            inner = path.parent / include[2].strip("\"' ")
            limits = constraint or include[1] in ("-c", "--constraint")
            yield from _file_lines(folder, Path(os.path.normpath(inner)), place, limits, (*above, path))
        elif text and not IDLE_OPTIONS.match(text):
            yield _line(text, place, constraint)


def _line(text: str, place: str, constraint: bool) -> Line:
    """One requirement, or RequirementError with the way out."""
    bare = re.sub(r"\s--hash[= ]\S+", "", text).strip()
    if re.match(r"(-i|--index-url|--extra-index-url|-f|--find-links|--no-index|--trusted-host)\b", bare):
        way = "Name one package index in bake.yaml, `index: https://…`, and take the line out."
    elif re.match(r"(-e|--editable)\b", bare) or re.match(r"[./~]|file:|.*\.whl$", bare):
        way = "The app's own folder is in the image as it is: take the line out. Others have to be on a package index."
    elif re.match(r"(git|hg|svn|bzr)\+|https?:", bare) or re.search(r"@\s*[\w+]+:", bare):
        way = "A machine must not depend on an address that moves: put a wheel on a package index, and name a version."
    else:
        try:
            name = canonicalize_name(Requirement(bare).name)
            return Line(bare, place, name, constraint, frozenset(HASH.findall(text)))
        except InvalidRequirement as error:
            way = f"Write it as name==version. {str(error).splitlines()[0]}."
    raise RequirementError(f"{place}: {bare!r} cannot be used", way)
