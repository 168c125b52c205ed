"""Find and read the files that list an app's requirements, with the location of each line for errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from bake.app import file_shapes, index_options, lock_files, poetry, project_metadata
from bake.app.direct_reference import EDITABLE
from bake.app.requirement_line import Line, applies, parse
from bake.config.debian import PYTHON_DATES, Target
from bake.errors import RequirementError
from bake.host import foreign_text

INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)[= ]?\s*(.+)")
#: The app's own folder, with extras: `.[web]`.
OWN_FOLDER = re.compile(r"\./?(?:\[([^]]*)\])?")
#: Files of tools that bake does not read, and the command that makes one that it does.
FOREIGN_FILES = {"environment.yml": "pip list --format=freeze > requirements.txt"}
#: Names of requirements files for production in other places, most specific first, and their usual folders.
PRODUCTION_NAMES = ("production", "prod", "deploy", "live")
BASE_NAMES = ("requirements", "base", "common", "main", "default", "app")
REQUIREMENTS_FOLDERS = ("requirements", "reqs", "deps", "requirements.d")
#: The patch releases of a Python that bake compares with requires-python. The last one stands for all newer ones.
PATCHES = range(100)
LOOSE_NAME = re.compile(r"(?:[\w-]+[-_.])?(?:requirements?|reqs?)(?:[-_.][\w-]+)?\.(?:txt|in|pip)", re.I)


@dataclass
class Reading:
    """One reading of an app's requirements: where, for which target and `index`, and the notes about it."""

    folder: Path
    target: Target
    index: str = ""
    notes: list[str] = field(default_factory=list)
    #: The requirements files that were read, and whether as constraints. A file can include another one many times.
    read_files: set[tuple[Path, bool]] = field(default_factory=set)


def requirements_file(folder: Path) -> str | None:
    """Return the file in an app's folder that lists its requirements, or None.

    Raises RequirementError if it belongs to a tool that bake does not support, or if several could be meant.
    """
    names = ("requirements.txt", *lock_files.LOCK_FILES)
    files = [name for name in names if (folder / name).is_file()]
    # `pip freeze` in a folder without packages, or a comment: the project's own list counts.
    if files == ["requirements.txt"] and not _has_lines(folder / "requirements.txt"):
        return _project_file(folder) or "requirements.txt"
    if files:
        return files[0]
    paths = [path for path in sorted(folder.iterdir()) if file_shapes.NAMED_PYLOCK.fullmatch(path.name)]
    if paths:
        return paths[0].name if len(paths) == 1 else _production_file(folder, paths, "pylock.toml")
    for name, command in FOREIGN_FILES.items():
        if (folder / name).is_file():
            raise RequirementError(f"bake does not read {folder / name}", f"Run `{command}` there, and bake again.")
    if file := _project_file(folder):
        return file
    if (folder / "Pipfile").is_file():
        return "Pipfile"
    return _elsewhere(folder)


def file_above(folder: Path, packages: Set[str] = frozenset()) -> str:
    """Return the path for bake.yaml of the requirements file above an app's folder in its repository, or "".

    `packages` are those that the app imports.
    """
    for level, path in enumerate(foreign_text.folders_above(folder), 1):
        with suppress(RequirementError, OSError):
            if file := requirements_file(path):
                return "" if lacks_package(path / file, packages) else "../" * level + file
    return ""


def lacks_package(file: Path, packages: Set[str]) -> bool:
    """Return whether a file is of the project of one of these packages, so that it lists only what that one needs."""
    folders = (file.parent / root / name for root in ("", "src") for name in packages if name)
    return file.name in project_metadata.FILES and any((folder / "__init__.py").is_file() for folder in folders)


def _has_lines(path: Path) -> bool:
    """Return whether a requirements file has a line that is not a comment. If it cannot be read, an error follows."""
    lines = foreign_text.read(path, "replace").splitlines()
    return any(line.strip() and not line.strip().startswith("#") for line in lines)


def _project_file(folder: Path) -> str | None:
    """Return the first file of project metadata that lists dependencies. Raises RequirementError for Poetry's own."""
    projects = [project_metadata.read(folder / name) for name in project_metadata.FILES if (folder / name).is_file()]
    file = next((project.file for project in projects if project.dependencies is not None), None)
    if file is None and "poetry" in project_metadata.table(folder / "pyproject.toml").get("tool", {}):
        raise RequirementError(
            f"{folder / 'pyproject.toml'} lists its dependencies only for Poetry",
            "Run `poetry export --without-hashes -o requirements.txt` there, and bake again.",
        )
    return file


def _elsewhere(folder: Path) -> str | None:
    """Return the requirements file with another usual name or place. Raises RequirementError if several fit."""
    paths = _other_paths(folder)
    return _production_file(folder, paths, "requirements.txt") if paths else None


def _production_file(folder: Path, paths: list[Path], usual_name: str) -> str:
    """Return the file for production, by its name. Raises RequirementError if none or several fit."""
    for names in (PRODUCTION_NAMES, BASE_NAMES):
        matches = [path for path in paths if _words(path) & {*names}]
        # pip-tools makes a .txt from each .in.
        matches = [path for path in matches if path.suffix != ".in" or path.with_suffix(".txt") not in matches]
        for name in names:
            candidates = [path for path in matches if path.stem.lower() == name] or matches
            if len(candidates) == 1:
                return candidates[0].relative_to(folder).as_posix()
    files = [path.relative_to(folder).as_posix() for path in paths]
    raise RequirementError(
        f"{folder} has no {usual_name}, but {', '.join(files)}",
        "Add the line of the file for production to bake.yaml.",
        "\n".join(f"requirements: {file}" for file in files),
    )


def _other_paths(folder: Path) -> list[Path]:
    """Return the requirements files in a folder and in the usual subfolders, by their names."""
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and LOOSE_NAME.fullmatch(path.name)]
    for name in REQUIREMENTS_FOLDERS:
        paths += [path for path in sorted((folder / name).glob("*")) if path.suffix in (".txt", ".in", ".pip")]
    return paths


def files_listing(folder: Path, name: str) -> list[str]:
    """Return the requirements files of an app that list a distribution in a line of their own."""
    line = re.compile(rf"^{re.escape(name).replace('-', '[-_.]+')}(?![\w.-])", re.I | re.M)
    files = []
    for path in _other_paths(folder):
        with suppress(OSError):
            files += [path.relative_to(folder).as_posix()] if line.search(foreign_text.read(path, "replace")) else []
    return files


def files_of_setup(folder: Path) -> list[str]:
    """Return the files with requirements that the code of a setup.py names, and that may compute its list."""
    with suppress(OSError):
        code = foreign_text.read(folder / "setup.py", "replace")
        paths = {folder / name for name in re.findall(r"""["'](\w[\w./-]*\.(?:txt|in|pip))["']""", code)}
        return sorted(path.relative_to(folder).as_posix() for path in paths if _is_list(path))
    return []


def _is_list(path: Path) -> bool:
    """Return whether the first line of a text that is no comment is a requirement."""
    with suppress(OSError):
        lines = foreign_text.read(path, "replace").splitlines()
        first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
        return bool(re.fullmatch(r"[\w.-]+(\[[\w,-]*\])?\s*([<>=!~;].*)?", first.strip()))
    return False


def _words(path: Path) -> set[str]:
    return set(re.split(r"[-_.]", path.stem.lower()))


def requirement_lines(
    folder: Path, source: str | tuple[str, ...], target: Target, index: str = "", notes: list[str] | None = None
) -> list[Line]:
    """Return the requirements of a list, or of a file with its includes. Raises RequirementError with the line.

    `index` is the one in bake.yaml. Adds to `notes` the requirements that the machine does not need, which are
    not in the result, and the indexes that bake ignores.
    """
    reading = Reading(folder, target, index, [] if notes is None else notes)
    lines = _lines(reading, source)
    for line in lines:
        if line.reference and line.reference.path:
            _check_path(folder, line, line.reference.path, target)
    reading.notes += dict.fromkeys(
        f"not installed: {line.text} ({line.location}): {line.unneeded}" for line in lines if line.unneeded
    )
    return [line for line in lines if not line.unneeded]


def _check_path(folder: Path, line: Line, path: str, target: Target) -> None:
    """Raise RequirementError if a path of the app does not exist, or if its project excludes the target's Python.

    pip reports the latter only after bake has made a builder root.
    """
    if not (folder / path).exists():
        raise RequirementError(f"{line.location}: {path} does not exist in {folder}", "Correct the path, or the line.")
    if not applies(Requirement(line.text), target):
        return
    for name in project_metadata.FILES:
        if (folder / path / name).is_file():
            project = project_metadata.read(folder / path / name)
            require_allowed(replace(project, file=f"{path}/{name}"), target)


def _lines(reading: Reading, source: str | tuple[str, ...]) -> list[Line]:
    if not isinstance(source, str):
        return [parse(text, f"requirements[{number}]", reading.target) for number, text in enumerate(source)]
    path = reading.folder / source
    _require_within_reach(reading, path, "requirements")
    if path.name in project_metadata.FILES:
        return _project_lines(reading, project_metadata.read(path), path.parent)
    if file_shapes.format_name(path.name) in lock_files.LOCK_FILES:
        return lock_files.read(path, source, reading.target)
    if path.name == "Pipfile":
        _check_indexes(reading, path.parent, "Pipfile")
        reading.notes.append("Pipfile.lock is missing: bake resolves the newest versions that Pipfile allows")
        return lock_files.pipfile(path, source, reading.target)
    return list(_file_lines(reading, path, "", False, ()))


def _require_within_reach(reading: Reading, path: Path, location: str) -> None:
    """Raise RequirementError for a file outside of the app and its repository: an error would show its lines."""
    if not path.resolve().is_relative_to(foreign_text.reach(reading.folder)):
        raise RequirementError(
            f"{location}: {path.name} is outside of the app's folder and its repository",
            "Copy the file into the app's folder.",
        )


def _check_indexes(reading: Reading, folder: Path, file: str) -> None:
    """Raise RequirementError if a file sets an index that bake would not use."""
    for location, address in index_options.of_project(folder):
        if location.startswith(file):
            index_options.require_known(address, location, reading.index, reading.notes)


def _project_lines(
    reading: Reading, project: project_metadata.Project, folder: Path, ancestors: tuple[Path, ...] = ()
) -> list[Line]:
    """Return the dependencies of a project. Raises RequirementError."""
    require_allowed(project, reading.target)
    _check_indexes(reading, folder, project.file)
    lines = [parse(text, project.location(text), reading.target) for text in project.dependencies or ()]
    for name in project.dependency_files:
        path = Path(os.path.normpath(folder / name))
        lines += _file_lines(reading, path, project.location(name), False, ancestors)
    return [_from_uv_source(reading, folder, line) for line in lines] if project.file == "pyproject.toml" else lines


def _from_uv_source(reading: Reading, folder: Path, line: Line) -> Line:
    """Return a requirement with its source in [tool.uv.sources], if it has one. Raises RequirementError."""
    sources = project_metadata.table(folder / "pyproject.toml").get("tool", {}).get("uv", {}).get("sources", {})
    source = next((source for name, source in sources.items() if canonicalize_name(name) == line.name), None)
    if source is None:
        return line
    if not isinstance(source, dict) or not {"git", "url", "path"} & source.keys():
        raise RequirementError(
            f"pyproject.toml: bake does not support {line.name} in [tool.uv.sources]",
            "Run `uv lock` there, or upload a wheel of it to a package `index`.",
        )
    requirement = Requirement(line.text)
    entry = {**source, "extras": sorted(requirement.extras), "markers": str(requirement.marker or "")}
    (text,) = poetry.requirements({line.name: entry})
    return parse(text, line.location, reading.target)


def _own_lines(reading: Reading, text: str, location: str, ancestors: tuple[Path, ...]) -> list[Line]:
    """Return the dependencies that the project in the app's folder lists for `-e .` or `.[extra]`."""
    folder = reading.folder
    projects = [project_metadata.read(folder / name) for name in project_metadata.FILES if (folder / name).is_file()]
    project = next((project for project in projects if project.dependencies is not None), None)
    if project is None:
        computed = next((project.file for project in projects if project.is_computed), "")
        if projects and not computed:
            return []
        cause = f": {computed} computes its requirements" if computed else ": the folder has no pyproject.toml"
        raise RequirementError(
            f"{location}: bake cannot use {text!r}{cause}",
            "Replace the line by the app's requirements. The image contains the app's own folder.",
        )
    lines = _project_lines(reading, project, folder, ancestors)
    extras = re.search(r"\[([^]]*)\]", text)
    for name in extras[1].split(",") if extras else ():
        if name.strip() not in project.extras:
            raise RequirementError(f"{location}: {project.file} has no extra {name.strip()}", "Correct its name.")
        lines += [parse(line, project.location(line), reading.target) for line in project.extras[name.strip()]]
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
            f"Allow that Python, or choose another `base` in bake.yaml.{_python_hint(versions)}",
        )


def _python_hint(versions: SpecifierSet) -> str:
    """Return the line of bake.yaml with the oldest Python that a project admits, or "". It has the most wheels."""
    for major, minor in PYTHON_DATES:
        if admitted := [patch for patch in PATCHES if versions.contains(f"{major}.{minor}.{patch}")]:
            patch = "" if PATCHES[-1] in admitted else f".{admitted[-1]}"
            return f' Or write `python: "{major}.{minor}{patch}"` there: the release then contains that Python.'
    return ""


def _file_lines(
    reading: Reading, path: Path, location: str, constraint: bool, ancestors: tuple[Path, ...]
) -> Iterator[Line]:
    """Yield the requirements of a file and of the files that it includes. Raises RequirementError.

    `location` is the line that includes the file, and `ancestors` are the files on the way to it.
    """
    if path in ancestors:
        raise RequirementError(f"{location}: the file includes itself", "Remove the line.")
    _require_within_reach(reading, path, location)
    if (path, constraint) in reading.read_files:
        return
    reading.read_files.add((path, constraint))
    relative_path = os.path.relpath(path, reading.folder)
    logical_line, start = "", 0
    for number, line in enumerate([*project_metadata.text_of(path, location).splitlines(), ""], 1):
        start = start if logical_line else number
        logical_line += re.sub(r"(^|\s)#.*", "", line).strip()
        if logical_line.endswith("\\"):
            logical_line = logical_line[:-1] + " "
            continue
        text, logical_line, location = logical_line.strip(), "", f"{relative_path}:{start}"
        if include := INCLUDE.fullmatch(text):
            include_path = path.parent / include[2].strip("\"' ")
            is_constraint = constraint or include[1] in ("-c", "--constraint")
            yield from _file_lines(
                reading, Path(os.path.normpath(include_path)), location, is_constraint, (*ancestors, path)
            )
        elif index := index_options.INDEX_OPTION.fullmatch(text):
            index_options.require_known(index[1], location, reading.index, reading.notes)
        elif index_options.OTHER_PLACE.match(text):
            raise RequirementError(
                f"{location}: bake cannot use {text!r}",
                "Remove the line, and set a package index in bake.yaml: `index: https://…`.",
            )
        elif OWN_FOLDER.fullmatch(EDITABLE.sub("", text)):
            yield from _own_lines(reading, text, location, (*ancestors, path))
        elif text and not index_options.IDLE_OPTION.match(text):
            yield parse(text, location, reading.target, constraint)
