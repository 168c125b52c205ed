"""Read the project metadata of an app from pyproject.toml, setup.cfg or setup.py, without running code."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bake.app import file_shapes, poetry
from bake.app.names import dotted_name
from bake.errors import RequirementError
from bake.host import foreign_text

FILES = ("pyproject.toml", "setup.cfg", "setup.py")
#: Dependency groups (PEP 735) for production, in a project that is not a package, and the maximum depth of includes.
GROUPS = {"main", "prod", "production"}
MAX_INCLUDES = 10


@dataclass(frozen=True)
class Project:
    """A project as one file describes it. Values that the file omits or computes are None or empty.

    `dependencies` is None if the file has no list of them. `dependency_files` list more of them.
    `is_computed`: code computes them. `extras` maps the name of an extra to its dependencies, and `entry_points` group
    to name to target.
    """

    file: str
    text: str
    name: str | None = None
    version: str | None = None
    requires_python: str = ""
    dependencies: tuple[str, ...] | None = None
    entry_points: dict[str, dict[str, str]] = field(default_factory=dict)
    dependency_files: tuple[str, ...] = ()
    extras: dict[str, tuple[str, ...]] = field(default_factory=dict)
    is_computed: bool = False

    def location(self, requirement: str) -> str:
        """Return `file:line` of a requirement."""
        index = self.text.find(requirement)
        if index < 0 and (name := re.match(r"[\w.-]+", requirement)):  # Poetry's are written otherwise.
            match = re.search(rf"^[\"']?{re.escape(name[0])}\b", self.text, re.M | re.I)
            index = match.start() if match else -1
        return f"{self.file}:{self.text.count(chr(10), 0, max(index, 0)) + 1}"


def text_of(path: Path, location: str = "") -> str:
    """Return a file's text. Raises RequirementError, which names the `location` of the include."""
    try:
        return foreign_text.read(path)
    except OSError as error:
        is_missing = location and isinstance(error, FileNotFoundError)
        hint = "Create the file, or remove that line." if is_missing else "Correct the path, or the file's mode."
        raise RequirementError(f"{location or path}: {path.name} cannot be read: {error.strerror}", hint) from None
    except UnicodeDecodeError:
        raise RequirementError(
            f"{path} is not UTF-8 text", "Save it as UTF-8. PowerShell saves UTF-16 by default."
        ) from None


def table(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file in `file_shapes`, or {} if there is no file. Raises RequirementError."""
    if not path.is_file():
        return {}
    text = text_of(path)
    try:
        content = foreign_text.from_toml(text)
    except ValueError as error:
        raise RequirementError(f"{path.name}: {error}", "Correct the TOML at that line.") from None
    file_shapes.require(content, path.name, text)
    return content


def read(path: Path) -> Project:
    """Read one of FILES. Raises RequirementError if it cannot be read."""
    return {"pyproject.toml": _pyproject, "setup.cfg": _setup_cfg, "setup.py": _setup_py}[path.name](path)


def find(folder: Path) -> Project | None:
    """Return the project from the first file that has its name, or None."""
    projects = (read(folder / name) for name in FILES if (folder / name).is_file())
    return next((project for project in projects if project.name), None)


def _pyproject(path: Path) -> Project:
    content = table(path)
    project, tool = content.get("project", {}), content.get("tool", {})
    poetry_table = tool.get("poetry", {})
    commands = project.get("scripts") or poetry_table.get("scripts", {})
    entry_points = {"console_scripts": {name: target for name, target in commands.items() if isinstance(target, str)}}
    entry_points |= project.get("entry-points", {})
    dependencies, requires_python = project.get("dependencies"), project.get("requires-python", "")
    names, is_computed = tuple[str, ...](), False
    if "dependencies" in project.get("dynamic", ()):
        dynamic = tool.get("setuptools", {}).get("dynamic", {}).get("dependencies", {})
        value = dynamic.get("file", ()) if isinstance(dynamic, dict) else ()
        names = (value,) if isinstance(value, str) else tuple(map(str, value if isinstance(value, list) else ()))
        dependencies, is_computed = () if names else None, not names
    elif dependencies is None and "dependencies" in tool.get("poetry", {}):
        dependencies, requires_python = _poetry(tool["poetry"]["dependencies"])
        is_computed = dependencies is None
    elif dependencies is None and (group := GROUPS & content.get("dependency-groups", {}).keys()):
        dependencies = tuple(_group(content["dependency-groups"], min(group)))
    return Project(
        path.name, text_of(path), project.get("name") or poetry_table.get("name"),
        project.get("version") or poetry_table.get("version"), requires_python,
        None if dependencies is None else tuple(dependencies), entry_points, names,
        {name: tuple(lines) for name, lines in project.get("optional-dependencies", {}).items()},
        is_computed,
    )  # fmt: skip


def _group(groups: dict[str, Any], name: str, depth: int = 0) -> Iterator[str]:
    """Yield the dependencies of a group (PEP 735) and of the groups that it includes."""
    for entry in groups.get(name, ()) if depth < MAX_INCLUDES else ():
        if isinstance(entry, dict):
            yield from _group(groups, str(entry.get("include-group")), depth + 1)
        else:
            yield str(entry)


def _poetry(dependencies: dict[str, Any]) -> tuple[tuple[str, ...] | None, str]:
    """Return the dependencies of a Poetry project and its requires-python. None and "" if pip knows no equal."""
    try:
        python = dependencies.get("python", "")
        return poetry.requirements(dependencies), poetry.specifiers(python if isinstance(python, str) else "")
    except (poetry.UnsupportedError, TypeError):  # TypeError: a value of another type has no equal, either.
        return None, ""


def _setup_cfg(path: Path) -> Project:
    text, config = text_of(path), configparser.RawConfigParser(strict=False)
    try:
        config.read_string(text)
    except configparser.Error as error:
        raise RequirementError(f"{path.name}: {error}", "Correct that line.") from None
    dependencies = config.get("options", "install_requires", fallback=None)
    version = config.get("metadata", "version", fallback="")
    names: tuple[str, ...] = ()
    if dependencies and dependencies.strip().startswith("file:"):
        names, dependencies = tuple(re.split(r"[,\s]+", dependencies.strip().removeprefix("file:").strip())), ""
    entry_points = _section(config, "options.entry_points")
    return Project(
        path.name, text, config.get("metadata", "name", fallback=None),
        None if version.startswith(("attr:", "file:")) else version or None,
        config.get("options", "python_requires", fallback=""), None if dependencies is None else _lines(dependencies),
        {group: _points(lines) for group, lines in entry_points}, names,
        {name: _lines(lines) for name, lines in _section(config, "options.extras_require")},
    )  # fmt: skip


def _section(config: configparser.RawConfigParser, name: str) -> list[tuple[str, str]]:
    return config.items(name) if config.has_section(name) else []


def _setup_py(path: Path) -> Project:
    """Return the project from the arguments of setup() that are literals, or variables with literals."""
    text = text_of(path)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Project(path.name, text)  # bake does not run it, so this is not an error.
    names: dict[str, ast.expr] = {}
    keywords: set[str | None] = set()
    values: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = node.value
        elif isinstance(node, ast.Call) and dotted_name(node.func) in ("setup", "setuptools.setup"):
            keywords |= {keyword.arg for keyword in node.keywords}
            for keyword in node.keywords:
                value = names.get(keyword.value.id) if isinstance(keyword.value, ast.Name) else keyword.value
                try:
                    values[keyword.arg or ""] = ast.literal_eval(value or keyword.value)
                except (ValueError, TypeError, RecursionError, MemoryError):
                    continue

    def text_value(key: str) -> str | None:
        value = values.get(key)
        return value if isinstance(value, str) else None

    # setuptools' default for a missing version. If the version is computed, it stays unknown.
    version = text_value("version") if keywords & {"version", None} else "0.0.0"
    dependencies, entry_points = values.get("install_requires"), values.get("entry_points")
    dependencies = _lines(dependencies) if isinstance(dependencies, str) else dependencies
    if isinstance(entry_points, str):
        config = configparser.RawConfigParser(strict=False)
        # Without a section, the text has no entry point that bake can read.
        with suppress(configparser.Error):
            config.read_string("\n".join(line.strip() for line in entry_points.splitlines()))
        entry_points = {group: list(map(" = ".join, config[group].items())) for group in config.sections()}
    return Project(
        path.name, text, text_value("name"), version, text_value("python_requires") or "",
        tuple(map(str, dependencies)) if isinstance(dependencies, list | tuple) else None,
        {group: _points(lines) for group, lines in _lists(entry_points).items()},
        extras=_lists(values.get("extras_require")),
        is_computed=dependencies is None and not keywords.isdisjoint({"install_requires", None}),
    )  # fmt: skip


def _lists(value: object) -> dict[str, tuple[str, ...]]:
    """Return the lists of lines in an argument of setup(), by name. A value of another type has none."""
    groups = value if isinstance(value, dict) else {}
    return {
        str(name): _lines(lines) if isinstance(lines, str) else tuple(map(str, lines))
        for name, lines in groups.items()
        if isinstance(lines, str | list | tuple)
    }


def _lines(text: str) -> tuple[str, ...]:
    lines = (line.partition(" #")[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _points(lines: str | tuple[str, ...]) -> dict[str, str]:
    """Return `name = target` lines as a mapping."""
    pairs = (line.partition("=") for line in (_lines(lines) if isinstance(lines, str) else lines))
    return {name.strip(): target.strip() for name, _, target in pairs}
