"""Read the lock files of other tools: uv, pip (pylock.toml), Poetry, PDM and pipenv."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uv
from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from bake.app import file_lines, file_shapes, poetry, project_metadata
from bake.app.requirement_line import Line, marker_environment, parse
from bake.config.debian import Target
from bake.errors import ProgramError, RequirementError
from bake.host import foreign_text
from bake.host.programs import run

#: uv's options that export a lock as requirement lines with hashes. uv does not use the network, and ignores the
#: settings in the folder, which could set the path of a cache.
EXPORT = (
    "--frozen", "--no-config", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate", "--no-python-downloads",
    "-q",
)  # fmt: skip

#: The markers that a Pipfile writes as keys of a package.
MARKER_KEYS = (
    "sys_platform", "platform_system", "platform_machine", "os_name", "python_version", "python_full_version",
)  # fmt: skip


#: The types of source in poetry.lock that are a URL or a path.
LOCAL = ("directory", "file", "url")


def read(path: Path, file: str, target: Target) -> list[Line]:
    """Return the requirements in a lock file. `file` is its name in errors. Raises RequirementError."""
    return LOCK_FILES[file_shapes.format_name(path.name)](path, file, target)


def _uv(path: Path, file: str, target: Target) -> list[Line]:
    project = path.parent
    if ".." in path.parts:
        # The lock of a workspace, above the app's folder: the app needs only its own project's packages.
        member = Path(*path.parts[: path.parts.index("..")])
        project = member if (member / "pyproject.toml").is_file() else project
    location = _locations(path, file)
    argv = [uv.find_uv_bin(), "export", *EXPORT, "--project", str(project.absolute()), "--python", sys.executable]
    try:
        text = run(argv, env={"NO_COLOR": "1"}).stdout
    except ProgramError as error:
        line = re.search(r"uv\.lock`\s+.*TOML parse error at line (\d+)", error.details)
        place = f"{file}:{line[1]}" if line else file
        raise RequirementError(f"uv cannot read {place}", "Run `uv lock` there.", error.details) from None
    return [parse(line, location(line), target) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def _locations(path: Path, file: str) -> Callable[[str], str]:
    """Return a function that returns `file:line` of a package, by its requirement."""
    lines = file_lines.of_packages(project_metadata.text_of(path), path.name)

    def location(requirement: str) -> str:
        name = re.match(r"[\w.-]*", requirement.strip())
        line = lines.get(canonicalize_name(name[0] if name else ""))
        return f"{file}:{line}" if line else file

    return location


def _pipenv(path: Path, file: str, target: Target) -> list[Line]:
    lock_text = project_metadata.text_of(path)
    try:
        content = foreign_text.from_json(lock_text)
    except ValueError:
        raise RequirementError(f"{file} is not a lock file of pipenv", "Run `pipenv lock` there.") from None
    file_shapes.require(content, path.name, lock_text)
    location = _locations(path, file)
    return [
        parse(text, location(text), target)
        for name, package in content["default"].items()
        for text in [_pipenv_requirement(name, package)]
        if text
    ]


def pipfile(path: Path, file: str, target: Target) -> list[Line]:
    """Return the packages in a Pipfile, which has no hashes. Raises RequirementError."""
    packages = project_metadata.table(path).get("packages", {})
    texts = [
        _pipenv_requirement(name, package if isinstance(package, dict) else {"version": package})
        for name, package in packages.items()
    ]
    location = _locations(path, file)
    return [parse(text, location(text), target) for text in texts if text]


def _pipenv_requirement(name: str, package: dict[str, Any]) -> str:
    """Return a package of a Pipfile or its lock as a requirement, or "" for the app's own folder."""
    extras = f"[{','.join(package['extras'])}]" if package.get("extras") else ""
    if package.get("path", "") in (".", "./"):
        return ""
    if "version" not in package:
        url, commit = package.get("git", ""), f"@{package['ref']}" if package.get("ref") else ""
        folder = f"#subdirectory={package['subdirectory']}" if package.get("subdirectory") else ""
        if url and not url.startswith("git+"):
            return f"{name}{extras} @ git+{url}{commit}{folder}"
        place = f"{url}{commit}{folder}" or package.get("file") or f"file:{package.get('path', name)}"
        return f"{name}{extras} @ {place}"
    markers = [package["markers"]] if package.get("markers") else []
    markers += [f"{key} {package[key]}" for key in MARKER_KEYS if key in package]
    marker = f" ; {' and '.join(markers)}" if markers else ""
    hashes = "".join(f" --hash={value}" for value in package.get("hashes", []))
    version = "" if package["version"] == "*" else package["version"]
    # Without an operator, the version would become a part of another package's name.
    version = f"=={version}" if re.match(r"\w", version) else version
    return f"{name}{extras}{version}{marker}{hashes}"


def _pylock(path: Path, file: str, target: Target) -> list[Line]:
    """Return the packages of a pylock.toml (PEP 751) that its default groups install on the target."""
    content = project_metadata.table(path)
    groups = frozenset(content.get("default-groups", ()))
    environment: dict[str, str | frozenset[str]] = {
        **marker_environment(target),
        "extras": frozenset(),
        "dependency_groups": groups,
    }
    location = _locations(path, file)
    lines = []
    for package in content.get("packages", ()):
        place = location(package["name"])
        try:
            marker = Marker(package["marker"]) if package.get("marker") else None
            applies = marker is None or marker.evaluate(environment, context="lock_file")
        except (InvalidMarker, UndefinedEnvironmentName):
            raise RequirementError(f"{place}: the marker {package['marker']!r} is invalid", "Lock it again.") from None
        if not applies or package.get("directory", {}).get("path") in (".", "./"):
            continue
        artifacts = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        hashes = [f" --hash=sha256:{item['hashes']['sha256']}" for item in artifacts if "sha256" in item["hashes"]]
        lines.append(parse(_pylock_requirement(package) + "".join(hashes), place, target))
    return lines


def _pylock_requirement(package: dict[str, Any]) -> str:
    if "vcs" in package:
        vcs = package["vcs"]
        folder = f"#subdirectory={vcs['subdirectory']}" if vcs.get("subdirectory") else ""
        return f"{package['name']} @ {vcs['type']}+{vcs.get('url') or vcs.get('path', '')}@{vcs['commit-id']}{folder}"
    if "archive" in package or "directory" in package:
        source = package.get("archive") or package.get("directory", {})
        return f"{package['name']} @ {source.get('url') or 'file:' + source.get('path', '')}"
    return f"{package['name']}=={package['version']}" if "version" in package else str(package["name"])


def _project_lock(path: Path, file: str, target: Target) -> list[Line]:
    """Return a project's own dependencies, and the packages in the lock of Poetry or PDM as constraints with hashes.

    The two locks have the same fields. Their files of a package are those of all systems and Pythons.
    """
    project = project_metadata.read(path.parent / "pyproject.toml")
    command = "poetry export --without-hashes" if path.name == "poetry.lock" else "pdm export --prod"
    if project.dependencies is None:
        raise RequirementError(
            f"bake cannot read the dependencies of {path.parent / 'pyproject.toml'}, which {file} locks",
            f"Run `{command} -o requirements.txt` there, and bake again.",
        )
    packages: dict[str, list[dict[str, Any]]] = {}
    for package in project_metadata.table(path).get("package", ()):
        if _applies(package, target):
            packages.setdefault(canonicalize_name(package["name"]), []).append(package)
    roots = [parse(text, project.location(text), target) for text in project.dependencies]
    names = _reachable([line.name for line in roots if not line.unneeded], packages)
    location = _locations(path, file)
    constraints = [_locked(packages[name], location(name), target) for name in sorted(names)]
    return [*roots, *constraints]


def _applies(package: dict[str, Any], target: Target) -> bool:
    """Return whether an entry of the lock is for the target's Python. A marker that cannot be read is no obstacle."""
    versions = package.get("python-versions") or package.get("requires_python") or ""
    try:
        return SpecifierSet(poetry.specifiers(versions), prereleases=True).contains(target.python_full_version)
    except (poetry.UnsupportedError, InvalidSpecifier):
        return True


def _reachable(names: list[str], packages: dict[str, list[dict[str, Any]]]) -> set[str]:
    """Return the names of the locked packages that these need."""
    result: set[str] = set()
    pending = names
    while pending:
        name = pending.pop()
        if name in packages and name not in result:
            result.add(name)
            for package in packages[name]:
                pending += map(canonicalize_name, _dependency_names(package.get("dependencies", ())))
    return result


def _dependency_names(dependencies: Any) -> Iterator[str]:
    """Yield the names in Poetry's table of dependencies, or in PDM's list."""
    for dependency in dependencies:
        if match := re.match(r"[\w.-]*\w", dependency):
            yield match[0]


def _locked(packages: list[dict[str, Any]], location: str, target: Target) -> Line:
    """Return the newest of a package's entries as a constraint with hashes."""
    package = max(packages, key=lambda entry: Version(str(entry["version"])))
    source = package.get("source", {})
    if package.get("git") or source.get("type") == "git":
        address = package.get("git") or source["url"]
        commit = package.get("revision") or source.get("resolved_reference")
        folder = package.get("subdirectory") or source.get("subdirectory")
        fragment = f"#subdirectory={folder}" if folder else ""
        return parse(f"{package['name']} @ git+{address}@{commit}{fragment}", location, target, constraint=True)
    if place := package.get("path") or package.get("url") or (source["url"] if source.get("type") in LOCAL else ""):
        return parse(
            f"{package['name']} @ {place if ':' in place else f'file:{place}'}", location, target, constraint=True
        )
    hashes = "".join(f" --hash={entry['hash']}" for entry in package.get("files", ()))
    return parse(f"{package['name']}=={package['version']}{hashes}", location, target, constraint=True)


LOCK_FILES: dict[str, Callable[[Path, str, Target], list[Line]]] = {
    "uv.lock": _uv, "pylock.toml": _pylock, "poetry.lock": _project_lock, "pdm.lock": _project_lock,
    "Pipfile.lock": _pipenv,
}  # fmt: skip
