"""Read the files that list an app's requirements, with the location of each line for errors."""

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
    """A requirement, and its location as `file:line`."""

    text: str
    location: str
    name: str
    constraint: bool = False
    hashes: frozenset[str] = frozenset()


def requirements_file(folder: Path) -> str | None:
    """Return the file in an app's folder that lists its requirements, or None.

    Raises RequirementError if it belongs to a tool that bake does not support.
    """
    lock_file = next(
        (name for name in ("requirements.txt", "uv.lock", "Pipfile.lock") if (folder / name).is_file()), None
    )
    if lock_file:
        return lock_file
    uses_poetry = "poetry" in project_metadata.table(folder / "pyproject.toml").get("tool", {})
    for name, command in (
        ("poetry.lock", "poetry export --without-hashes -o requirements.txt"),
        ("pdm.lock", "pdm export --prod -o requirements.txt"),
        ("Pipfile", "pipenv lock"),
        ("environment.yml", "pip list --format=freeze > requirements.txt"),
    ):
        if (folder / name).is_file():
            raise RequirementError(f"bake does not read {folder / name}", f"Run `{command}` there, and bake again.")
    names = (name for name in project_metadata.FILES if (folder / name).is_file())
    project_file = next((name for name in names if project_metadata.read(folder / name).dependencies is not None), None)
    if project_file is None and uses_poetry:
        raise RequirementError(
            f"{folder / 'pyproject.toml'} lists its dependencies only for Poetry",
            "Run `poetry export --without-hashes -o requirements.txt` there, and bake again.",
        )
    return project_file


def requirement_lines(folder: Path, source: str | tuple[str, ...], target: Target) -> list[Line]:
    """Return the requirements of a list, or of a file with its includes. Raises RequirementError with the line."""
    if not isinstance(source, str):
        return [_line(text, f"requirements[{number}]", False) for number, text in enumerate(source)]
    path = folder / source
    if path.name in project_metadata.FILES:
        return _project_lines(project_metadata.read(path), path.parent, target)
    if path.name == "uv.lock":
        argv = [uv.find_uv_bin(), "export", *EXPORT, "--project", str(path.parent), "--python", sys.executable]
        try:
            text = run(argv, env={"NO_COLOR": "1"}).stdout
        except ProgramError as error:
            raise RequirementError(f"uv cannot read {source}", "Run `uv lock` there.", error.details) from None
        return [_line(line, source, False) for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    if path.name == "Pipfile.lock":
        return _pipfile_lines(path, source)
    return list(_file_lines(folder, path, "", False, ()))


def _project_lines(project: project_metadata.Project, folder: Path, target: Target) -> list[Line]:
    """Return the dependencies of a project. Raises RequirementError."""
    require_allowed(project, target)
    lines = [_line(text, project.location(text), False) for text in project.dependencies or ()]
    sources = project_metadata.table(folder / "pyproject.toml").get("tool", {}).get("uv", {}).get("sources", {})
    for source in sources if project.file == "pyproject.toml" else ():
        if canonicalize_name(source) in {line.name for line in lines}:
            raise RequirementError(
                f"{project.file}: bake does not support {source} in [tool.uv.sources]",
                "Upload a wheel of it to a package `index`.",
            )
    return lines


def require_allowed(project: project_metadata.Project, target: Target) -> None:
    """Raise RequirementError if a project's requires-python is invalid or excludes the target's Python."""
    requires_python = project.requires_python
    try:
        versions = SpecifierSet(requires_python, prereleases=True)
        is_allowed = not requires_python or versions.contains(target.python_full_version)
    except InvalidSpecifier:
        raise RequirementError(
            f"{project.file}: requires-python is {requires_python!r}, which is not a range of versions",
            "Write a range such as >=3.11.",
        ) from None
    if not is_allowed:
        raise RequirementError(
            f"{project.file}: requires-python is {requires_python!r}; "
            f"{target.name} has Python {target.python_full_version}",
            "Allow that Python, or choose another `base` in bake.yaml.",
        )


def _pipfile_lines(path: Path, file: str) -> list[Line]:
    """Return the requirements of a Pipfile.lock. Raises RequirementError."""
    try:
        packages = json.loads(project_metadata.text_of(path))["default"]
    except (ValueError, KeyError, TypeError):
        raise RequirementError(f"{file} is not a lock file of pipenv", "Run `pipenv lock` there.") from None
    lines = []
    for name, package in packages.items():
        extras = f"[{','.join(package['extras'])}]" if package.get("extras") else ""
        if "version" not in package:  # A folder or a repository, which _line refuses.
            reference = f"git+{package['git']}" if "git" in package else f"./{package.get('path', name)}"
            lines.append(_line(reference, file, False))
            continue
        marker = f" ; {package['markers']}" if package.get("markers") else ""
        hashes = "".join(f" --hash={value}" for value in package.get("hashes", []))
        lines.append(_line(f"{name}{extras}{package['version']}{marker}{hashes}", file, False))
    return lines


def _file_lines(
    folder: Path, path: Path, location: str, constraint: bool, ancestors: tuple[Path, ...]
) -> Iterator[Line]:
    """Yield the requirements of a file and of the files that it includes. Raises RequirementError.

    `location` is the line that includes the file, and `ancestors` are the files on the way to it.
    """
    if path in ancestors:
        raise RequirementError(f"{location}: the file includes itself", "Remove the line.")
    relative_path = os.path.relpath(path, folder)
    logical_line, start = "", 0
    for number, line in enumerate([*project_metadata.text_of(path, location).splitlines(), ""], 1):
        start = start if logical_line else number
        logical_line += re.sub(r"(^|\s)#.*", "", line).strip()
        if logical_line.endswith("\\"):
            logical_line = logical_line[:-1] + " "
            continue
        text, logical_line, location = logical_line.strip(), "", f"{relative_path}:{start}"
        include = re.fullmatch(r"(-r|--requirement|-c|--constraint)[= ]?\s*(.+)", text)
        if include:
            include_path = path.parent / include[2].strip("\"' ")
            is_constraint = constraint or include[1] in ("-c", "--constraint")
            yield from _file_lines(
                folder, Path(os.path.normpath(include_path)), location, is_constraint, (*ancestors, path)
            )
        elif text and not IDLE_OPTIONS.match(text):
            yield _line(text, location, constraint)


def _line(text: str, location: str, constraint: bool) -> Line:
    """Return a requirement. Raises RequirementError for one that bake does not support."""
    specification = re.sub(r"\s--hash[= ]\S+", "", text).strip()
    if re.match(r"(-i|--index-url|--extra-index-url|-f|--find-links|--no-index|--trusted-host)\b", specification):
        hint = "Remove the line, and set the package index in bake.yaml: `index: https://…`."
    elif re.match(r"(-e|--editable)\b", specification) or re.match(r"[./~]|file:|.*\.whl$", specification):
        hint = (
            "If it is the app's own folder, remove the line: the image contains it. Publish others on a package index."
        )
    elif re.match(r"(git|hg|svn|bzr)\+|https?:", specification) or re.search(r"@\s*[\w+]+:", specification):
        hint = "The file at a URL can change. Upload a wheel to a package index, and require its version."
    else:
        try:
            requirement = Requirement(specification)
            # For a path, which may be the app's own folder, uv would run a build backend.
            if not requirement.url:
                name = canonicalize_name(requirement.name)
                return Line(specification, location, name, constraint, frozenset(HASH.findall(text)))
            hint = "Require a version on a package index instead of a URL."
        except InvalidRequirement as error:
            hint = f"Write it as name==version. {str(error).splitlines()[0]}."
    raise RequirementError(f"{location}: bake cannot use {specification!r}", hint)
