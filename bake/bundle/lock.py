"""Resolve an app's requirements to a lock file with hashes.

uv resolves for the target's Python and glibc. If a package has no wheel, bake builds
one here. Errors name the file and line of a requirement.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import uv
from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from bake.app import asgi_server
from bake.app.requirement_line import HASH, Line
from bake.app.requirements_files import requirement_lines
from bake.bundle.built_wheels import NO_WHEEL_HINT, build
from bake.bundle.package_index import NO_NETWORK, TRACEBACK, index_env
from bake.config.debian import Target
from bake.config.recipe import Recipe
from bake.errors import BakeError, ConflictError, NetworkError, ProgramError, RequirementError, WheelError
from bake.host import cache, paths
from bake.host.files import digest, write
from bake.host.programs import Result, run

NO_WHEEL = re.compile(r"Wheels are required for `([^`]+)`")
#: uv lists the wheels of releases for these Python versions and newer ones. bake uses the first that every release
#: supports.
OLDER_PYTHONS = ("3.8", "3.10", "3.12")


@dataclass(frozen=True)
class Lock:
    """The app's requirements, pinned and with hashes, as a requirements file. `key` is the digest of its inputs.

    `built_packages` are the packages that bake has just built because they have no wheel. `notes` tell which
    requirements and indexes in the app's files are not used.
    """

    text: str
    key: str
    built_packages: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def hashes(self) -> frozenset[str]:
        """Return the SHA-256 digests (hex) of all files that the lock allows."""
        return frozenset(HASH.findall(self.text))

    @property
    def build_note(self) -> str:
        """Return the note that names the packages that bake built, which ran their code."""
        return f"built from source on this computer, which ran their code: {', '.join(self.built_packages)}"


@dataclass(frozen=True)
class Requirements:
    """An app's requirements for a Debian release, as uv takes them.

    `index` is the URL in bake.yaml. `key` is the digest of all inputs of the lock, except the index's content. `notes`
    tell which requirements and indexes in the app's files are not used. `optional` are requirements to leave out if
    they do not resolve.
    """

    target: Target
    index: str | None
    lines: tuple[Line, ...]
    text: str
    constraints: str
    key: str
    notes: tuple[str, ...]
    optional: str = ""

    @classmethod
    def read(cls, folder: Path, recipe: Recipe, target: Target) -> Requirements:
        """Read the requirements in the recipe's list, or in its file in the app's folder. Raises RequirementError."""
        source = "requirements.txt" if recipe.requirements is None else recipe.requirements
        index = recipe.index
        notes: list[str] = []
        lines = requirement_lines(folder, source, target, index or "", notes)
        optional = ""
        if recipe.asgi:
            lines += asgi_server.required(lines, notes)
            optional = asgi_server.optional(lines)
        requirements = [f"{line.text}\n" for line in lines if not line.constraint]
        constraints = [f"{line.text}\n" for line in lines if line.constraint]
        hashes = [(line.name, sorted(line.hashes)) for line in lines if line.hashes]
        version = importlib.metadata.version("uv")
        inputs = [requirements, constraints, hashes, target.python_version, target.uv_platform, index, version]
        key = digest([*inputs, optional] if optional else inputs)
        texts = "".join(requirements), "".join(constraints)
        return cls(target, index, tuple(lines), *texts, key, tuple(notes), optional)

    @property
    def hashed_lines(self) -> dict[str, Line]:
        """Return the lines with hashes, by the name of the package."""
        return {line.name: line for line in self.lines if line.hashes}

    @property
    def pins(self) -> tuple[Line, ...]:
        """Return the lines that admit one version only."""
        return tuple(line for line in self.lines if _is_pin(line.text))

    def location(self, name: str) -> str:
        """Return `file:line` of a requirement, or "" for a dependency of another package."""
        return next((line.location for line in self.lines if line.name == canonicalize_name(name)), "")


def _is_pin(text: str) -> bool:
    """Return whether a requirement admits one version only."""
    specifiers = Requirement(text).specifier
    return any(specifier.operator in ("==", "===") and not specifier.version.endswith("*") for specifier in specifiers)


def resolve(requirements: Requirements, age: cache.Age) -> Lock:
    """Return the lock of an app's requirements. Use one in the cache if its age is admitted.

    Raises RequirementError, ConflictError, WheelError, NetworkError.
    """
    path = paths.cache() / "locks" / f"{requirements.key}.txt"
    if age.admits_file(path):
        return Lock(path.read_text(), requirements.key, notes=requirements.notes)
    target, index = requirements.target, requirements.index
    sources: list[str] = []
    with cache.work_folder() as work:
        (work / "requirements.txt").write_text(requirements.text + requirements.optional)
        (work / "constraints.txt").write_text(requirements.constraints)
        result = _uv(compile_argv(target, age.refresh), index, work)
        if result.status and requirements.optional:
            (work / "requirements.txt").write_text(requirements.text)
            result = _uv(compile_argv(target, age.refresh), index, work)
        versions: dict[str, str] = {}
        checked_names: set[str] = set()
        while result.status:
            match = NO_WHEEL.search(" ".join(result.stderr.split()))
            if match is None or match[1] in sources:
                raise _resolution_error(result.stderr, requirements)
            names = {match[1]}
            if not sources:
                versions = _without_wheel(requirements, work)
                names |= {pin.name for pin in requirements.pins}
            suspects = {name: version for name, version in versions.items() if name in names}
            _require_pure(suspects, requirements, work)
            checked_names |= suspects.keys()
            sources += sorted({match[1], *suspects} - {*sources})
            result = _uv(compile_argv(target, age.refresh, sources), index, work)
        text = _with_required_hashes(result.stdout, requirements.hashed_lines)
        source_entries = {name: entry for entry in lock_entries(text) if (name := _name(entry)) in sources}
        unchecked_versions = {
            name: _version(entry) for name, entry in source_entries.items() if name not in checked_names
        }
        _require_pure(unchecked_versions, requirements, work)
        for entry in source_entries.values():
            text = text.replace(entry, build(entry, index, target, work))
    write(path, text)
    return Lock(text, requirements.key, tuple(source_entries), requirements.notes)


def _uv(argv: list[str], index: str | None, work: Path) -> Result:
    return run(argv, cwd=work, check=False, env={"NO_COLOR": "1", **index_env(index)})


def _without_wheel(requirements: Requirements, work: Path) -> dict[str, str]:
    """Return the requirements whose newest allowed version has no wheel for the target, with that version.

    Reads only the index. If uv fails, returns {}, because uv then explains the complete resolution.
    """
    files = ["--constraints=constraints.txt", "requirements.txt"]
    packages = listed_packages(target_argv(requirements.target), files, requirements.index, work) or []
    return {package["name"]: package["version"] for package in packages if not package.get("wheels")}


def _require_pure(releases: Mapping[str, str], requirements: Requirements, work: Path) -> None:
    """Raise WheelError for those of these releases (name to version) that have compiled wheels for other systems.

    Their source is not pure Python, so bake refuses them without a download or a build.
    """
    names = _compiled_names(releases, requirements.index, work) if releases else set()
    if not names:
        return
    locations = {f"{name}=={releases[name]}": requirements.location(name) for name in sorted(names)}
    reason = f"no wheel for Python {requirements.target.python_version} on {requirements.target.name}"
    if len(locations) == 1:
        ((pin, location),) = locations.items()
        message = f"{location}: " * bool(location) + f"{pin} has {reason}"
    else:
        listing = ", ".join(pin + f" ({location})" * bool(location) for pin, location in locations.items())
        message = f"{len(locations)} requirements have {reason}: {listing}"
    raise WheelError(message, NO_WHEEL_HINT)


def _compiled_names(releases: Mapping[str, str], index: str | None, work: Path) -> set[str]:
    """Return the names of the releases that have a wheel for a particular system or processor."""
    (work / "releases.txt").write_text("".join(f"{name}=={version}\n" for name, version in releases.items()))
    for python in OLDER_PYTHONS:
        packages = listed_packages(["--universal", f"--python-version={python}"], ["releases.txt"], index, work)
        if packages is not None:
            return {package["name"] for package in packages if any(map(_is_compiled, package.get("wheels", ())))}
    return set()


def _is_compiled(wheel: Mapping[str, str]) -> bool:
    """Return whether a wheel in a pylock.toml is for a particular system or processor."""
    address = wheel.get("url") or wheel.get("path") or ""
    try:
        tags = parse_wheel_filename(wheel.get("name") or unquote(urlsplit(address).path).rpartition("/")[2])[3]
    except InvalidWheelFilename:
        return False
    return all(tag.platform != "any" for tag in tags)


def target_argv(target: Target) -> list[str]:
    """Return uv's options that choose a target's Python and platform."""
    return [f"--python-version={target.python_version}", f"--python-platform={target.uv_platform}"]


def listed_packages(
    options: Sequence[str], files: Sequence[str], index: str | None, work: Path
) -> list[dict[str, Any]] | None:
    """Return the packages that uv lists for requirements files in `work`, or None if it fails."""
    result = _uv(listing_argv(options, files), index, work)
    if result.status:
        return None
    packages: list[dict[str, Any]] = tomllib.loads(result.stdout).get("packages", [])
    return packages


def listing_argv(target_options: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return uv's command that lists the files of each requirement as a pylock.toml, without dependencies.

    It allows sources, so that it lists releases without a matching wheel. Without dependencies, uv reads only the
    index: it downloads no wheel and builds nothing.
    """
    options = "--quiet --no-config --no-python-downloads --no-sources --no-deps --format=pylock.toml"
    return [uv.find_uv_bin(), "pip", "compile", *options.split(), f"--python={sys.executable}", *target_options, *files]


def compile_argv(target: Target, refresh: bool, sources: Sequence[str] = ()) -> list[str]:
    """Return uv's command that resolves requirements.txt and constraints.txt in its working folder.

    It considers only wheels, except for the packages in `sources`.
    """
    options = "--quiet --no-config --no-python-downloads --no-sources --only-binary=:all: --generate-hashes"
    options += " --no-header --no-annotate --no-emit-index-url"
    target_options = [f"--python={sys.executable}", *target_argv(target)]
    refresh_options = ["--refresh"] if refresh else []
    refresh_options += [f"--no-binary={name}" for name in sources]
    files = ["--constraints=constraints.txt", "requirements.txt"]
    return [uv.find_uv_bin(), "pip", "compile", *options.split(), *target_options, *refresh_options, *files]


def _resolution_error(stderr: str, requirements: Requirements) -> BakeError:
    """Return the error that matches uv's explanation."""
    target = requirements.target
    explanation = TRACEBACK.sub("", re.sub(r"^error: ", "", stderr.strip()))
    sentence = " ".join(explanation.split())

    def location_prefix(name: str) -> str:
        location = requirements.location(name)
        return f"{location}: " if location else ""

    if NO_NETWORK.search(sentence):
        address = re.search(r"https?://[^/\s`)]+", sentence)
        return NetworkError(
            f"The package index cannot be reached{f' at {address[0]}' if address else ''}",
            "Check the network, a proxy's settings, and `index` in bake.yaml.",
            explanation,
        )
    if match := NO_WHEEL.search(sentence) or re.search(
        r"Failed to (?:build|download and build) `([\w.-]+?)(?:==[^`]*)?`", sentence
    ):
        return WheelError(
            f"{location_prefix(match[1])}{match[1]} has no wheel for Python {target.python_version} on {target.name}",
            NO_WHEEL_HINT,
            explanation,
        )
    if match := re.search(r"(\S+) was not found in the package registry", sentence):
        return RequirementError(
            f"{location_prefix(match[1])}the package index has no package {match[1]}",
            "Check the spelling of its name.",
            explanation,
        )
    if match := re.search(r"there (?:is|are) no versions? of ([\w.-]+)(?:\[\S*?\])?(\S*)", sentence):
        name, requirement = match[1], match[1] + match[2]
    elif match := re.search(r"only ([\w.-]+?)(?:[<>=!].*?)? is available and you require (\1\S*), we can", sentence):
        name, requirement = match[1], match[2]
    if match:
        return RequirementError(
            f"{location_prefix(name)}the package index has no release of {requirement}",
            "Require a version that exists.",
            explanation,
        )
    if "No solution found" in sentence:
        lines = [
            line
            for line in requirements.lines
            if re.search(rf"(?<![\w-]){re.escape(line.name)}(?![\w-])", sentence, re.I)
        ]
        conflict = ", ".join(dict.fromkeys(f"{line.text} ({line.location})" for line in lines))
        return ConflictError(
            f"The requirements conflict on Python {target.python_version}" + (f": {conflict}" if conflict else ""),
            "Relax one of the requirements that uv's explanation above names.",
            explanation,
        )
    return ProgramError(
        "uv could not resolve the requirements", "Correct the cause that uv reports above.", explanation
    )


def _with_required_hashes(text: str, lines: dict[str, Line]) -> str:
    """Return the lock. For requirements with hashes, it has only those hashes."""
    for name, line in lines.items():
        entry = next((candidate for candidate in lock_entries(text) if _name(candidate) == name), "")
        if entry:
            restricted_entry = with_hashes(entry, line.hashes)
            if not HASH.search(restricted_entry):
                raise RequirementError(
                    f"{line.location}: no file of {name} on the package index has one of its hashes",
                    "Correct the hashes, or remove them.",
                )
            text = text.replace(entry, restricted_entry)
    return text


def lock_entries(text: str) -> list[str]:
    """Return the entries of a lock, each with its hashes."""
    return re.findall(r"^\S.*\n(?:[ \t]+.*\n)*", text, re.M)


def _name(entry: str) -> str:
    return canonicalize_name(entry.partition("==")[0])


def package_names(lock: Lock) -> set[str]:
    """Return the names of the distributions in a lock."""
    return {_name(entry) for entry in lock_entries(lock.text)}


def _version(entry: str) -> str:
    return entry.split(maxsplit=1)[0].partition("==")[2]


def with_hashes(entry: str, hashes: frozenset[str]) -> str:
    """Return the entry of a lock with only those of its hashes that are in `hashes`."""
    digests = sorted(set(HASH.findall(entry)) & hashes)
    return " \\\n".join([entry.split(maxsplit=1)[0], *(f"    --hash=sha256:{value}" for value in digests)]) + "\n"
