"""Read the files that list an app's requirements, and keep the place of each line for errors."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uv
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from bake.app import project_metadata
from bake.config.debian import Target
from bake.errors import ProgramError, RequirementError
from bake.host.programs import run

HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")
#: Options of a requirements file that change nothing, because bake only uses wheels with hashes.
IDLE_OPTIONS = re.compile(r"--(require-hashes|prefer-binary|only-binary|no-binary)\b")

#: uv's options that export a lock as requirement lines with hashes. uv does not use the network, and ignores the
#: settings in the folder, which could set the path of a cache.
EXPORT = (
    "--frozen", "--no-config", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate", "--no-python-downloads",
    "-q",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A requirement, and its place in a file."""

    text: str
    place: str
    name: str
    constraint: bool = False
    hashes: frozenset[str] = frozenset()


def found_file(folder: Path) -> str | None:
    """Return the file in an app's folder that lists its requirements, or None.

    Raises RequirementError if it belongs to a tool that bake does not support.
    """
    pinned = next((name for name in ("requirements.txt", "uv.lock", "Pipfile.lock") if (folder / name).is_file()), None)
    if pinned:
        return pinned
    poetry = "poetry" in project_metadata.table(folder / "pyproject.toml").get("tool", {})
    for name, command in (
        ("poetry.lock", "poetry export --without-hashes -o requirements.txt"),
        ("pdm.lock", "pdm export --prod -o requirements.txt"),
        ("Pipfile", "pipenv lock"),
        ("environment.yml", "pip list --format=freeze > requirements.txt"),
    ):
        if (folder / name).is_file():
            raise RequirementError(f"bake does not read {folder / name}", f"Run `{command}` there, and bake again.")
    listed = (name for name in project_metadata.FILES if (folder / name).is_file())
    found = next((name for name in listed if project_metadata.read(folder / name).dependencies is not None), None)
    if found is None and poetry:
        raise RequirementError(
            f"{folder / 'pyproject.toml'} lists its dependencies only for Poetry",
            "Run `poetry export --without-hashes -o requirements.txt` there, and bake again.",
        )
    return found


def requirement_lines(folder: Path, named: str | tuple[str, ...], target: Target) -> list[Line]:
    """Return the requirements of a list, or of a file with its includes. Raises RequirementError with the line."""
    if not isinstance(named, str):
        return [_line(text, f"requirements[{number}]", False) for number, text in enumerate(named)]
    path = folder / named
    if path.name in project_metadata.FILES:
        return _project_lines(project_metadata.read(path), path.parent, target)
    if path.name == "uv.lock":
        argv = [uv.find_uv_bin(), "export", *EXPORT, "--project", str(path.parent), "--python", sys.executable]
        try:
            text = run(argv, env={"NO_COLOR": "1"}).stdout
        except ProgramError as error:
            raise RequirementError(f"uv cannot read {named}", "Run `uv lock` there.", error.details) from None
        return [_line(line, named, False) for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    if path.name == "Pipfile.lock":
        return _pipfile_lines(path, named)
    return list(_file_lines(folder, path, "", False, ()))


def _project_lines(said: project_metadata.Project, folder: Path, target: Target) -> list[Line]:
    require_allowed(said, target)
    lines = [_line(text, said.place(text), False) for text in said.dependencies or ()]
    sources = project_metadata.table(folder / "pyproject.toml").get("tool", {}).get("uv", {}).get("sources", {})
    for source in sources if said.file == "pyproject.toml" else ():
        if canonicalize_name(source) in {line.name for line in lines}:
            raise RequirementError(
                f"{said.file}: bake does not support {source} in [tool.uv.sources]",
                "Upload a wheel of it to a package `index`.",
            )
    return lines


def require_allowed(said: project_metadata.Project, target: Target) -> None:
    """Raise RequirementError if a project's requires-python is invalid or excludes the target's Python."""
    wanted = said.requires_python
    try:
        allowed = not wanted or SpecifierSet(wanted, prereleases=True).contains(target.python_full_version)
    except InvalidSpecifier:
        raise RequirementError(
            f"{said.file}: requires-python is {wanted!r}, which is not a range of versions",
            "Write a range such as >=3.11.",
        ) from None
    if not allowed:
        raise RequirementError(
            f"{said.file}: requires-python is {wanted!r}; {target.name} has Python {target.python_full_version}",
            "Allow that Python, or choose another `base` in bake.yaml.",
        )


def _pipfile_lines(path: Path, named: str) -> list[Line]:
    try:
        packages = json.loads(project_metadata.text_of(path))["default"]
    except (ValueError, KeyError, TypeError):
        raise RequirementError(f"{named} is not a lock file of pipenv", "Run `pipenv lock` there.") from None
    lines = []
    for name, said in packages.items():
        extras = f"[{','.join(said['extras'])}]" if said.get("extras") else ""
        if "version" not in said:  # A folder or a repository, which _line refuses.
            place = f"git+{said['git']}" if "git" in said else f"./{said.get('path', name)}"
            lines.append(_line(place, named, False))
            continue
        marker = f" ; {said['markers']}" if said.get("markers") else ""
        hashes = "".join(f" --hash={value}" for value in said.get("hashes", []))
        lines.append(_line(f"{name}{extras}{said['version']}{marker}{hashes}", named, False))
    return lines


def _file_lines(folder: Path, path: Path, place: str, constraint: bool, above: tuple[Path, ...]) -> Iterator[Line]:
    if path in above:
        raise RequirementError(f"{place}: the file includes itself", "Remove the line.")
    here = os.path.relpath(path, folder)
    logical, start = "", 0
    for number, raw in enumerate([*project_metadata.text_of(path, place).splitlines(), ""], 1):
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
    """Return a requirement. Raises RequirementError for one that bake does not support, with a way out."""
    bare = re.sub(r"\s--hash[= ]\S+", "", text).strip()
    if re.match(r"(-i|--index-url|--extra-index-url|-f|--find-links|--no-index|--trusted-host)\b", bare):
        way = "Remove the line, and set the package index in bake.yaml: `index: https://…`."
    elif re.match(r"(-e|--editable)\b", bare) or re.match(r"[./~]|file:|.*\.whl$", bare):
        way = (
            "If it is the app's own folder, remove the line: the image contains it. Publish others on a package index."
        )
    elif re.match(r"(git|hg|svn|bzr)\+|https?:", bare) or re.search(r"@\s*[\w+]+:", bare):
        way = "The file at a URL can change. Upload a wheel to a package index, and require its version."
    else:
        try:
            requirement = Requirement(bare)
            # For a path, which may be the app's own folder, uv would run a build backend.
            if not requirement.url:
                name = canonicalize_name(requirement.name)
                return Line(bare, place, name, constraint, frozenset(HASH.findall(text)))
            way = "Require a version on a package index instead of a URL."
        except InvalidRequirement as error:
            way = f"Write it as name==version. {str(error).splitlines()[0]}."
    raise RequirementError(f"{place}: bake cannot use {bare!r}", way)
