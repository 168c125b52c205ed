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
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import uv
from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from bake.app.requirements_files import HASH, Line, requirement_lines
from bake.bundle.built_wheels import WITHOUT_WHEEL, build
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

    `built` names the packages that bake has just built because they have no wheel.
    """

    text: str
    key: str
    built: tuple[str, ...] = ()

    @property
    def hashes(self) -> frozenset[str]:
        """The SHA-256 digests (hex) of all files that the lock allows."""
        return frozenset(HASH.findall(self.text))

    @property
    def consent(self) -> str:
        """The note that names the packages that bake built, which ran their code."""
        return f"built from source on this computer, which ran their code: {', '.join(self.built)}"


@dataclass(frozen=True)
class _Request:
    """An app's requirements for uv. `key` is the digest of everything that the result depends on."""

    lines: list[Line]
    requirements: str
    constraints: str
    key: str

    @property
    def hashed(self) -> dict[str, Line]:
        """The lines with hashes, by the name of the package."""
        return {line.name: line for line in self.lines if line.hashes}

    @property
    def pinned(self) -> frozenset[str]:
        """Names of the packages that a line pins to one version."""
        return frozenset(line.name for line in self.lines if _is_pin(line.text))

    def location(self, name: str) -> str:
        """Return `file:line` of a requirement, or "" for a dependency of another package."""
        return next((line.location for line in self.lines if line.name == canonicalize_name(name)), "")


def _is_pin(text: str) -> bool:
    specifiers = Requirement(text).specifier
    return any(one.operator in ("==", "===") and not one.version.endswith("*") for one in specifiers)


def _request(folder: Path, recipe: Recipe, target: Target) -> _Request:
    named = "requirements.txt" if recipe.requirements is None else recipe.requirements
    lines = requirement_lines(folder, named, target)
    wanted = [f"{line.text}\n" for line in lines if not line.constraint]
    limits = [f"{line.text}\n" for line in lines if line.constraint]
    hashed = [(line.name, sorted(line.hashes)) for line in lines if line.hashes]
    version = importlib.metadata.version("uv")
    key = digest([wanted, limits, hashed, target.python_version, target.uv_platform, recipe.index, version])
    return _Request(lines, "".join(wanted), "".join(limits), key)


def key(folder: Path, recipe: Recipe, target: Target) -> str:
    """Return the digest of all inputs of the lock, except the index. Raises RequirementError."""
    return _request(folder, recipe, target).key


def resolve(folder: Path, recipe: Recipe, target: Target, age: cache.Age) -> Lock:
    """Return the lock of the app's requirements. Use one in the cache if its age is admitted.

    Raises RequirementError, ConflictError, WheelError, NetworkError.
    """
    request = _request(folder, recipe, target)
    cached = paths.cache() / "locks" / f"{request.key}.txt"
    if age.admits_file(cached):
        return Lock(cached.read_text(), request.key)
    sources: list[str] = []
    with cache.work_folder() as work:
        (work / "requirements.txt").write_text(request.requirements)
        (work / "constraints.txt").write_text(request.constraints)
        result = _uv(compile_argv(target, age.refresh), recipe, work)
        listed: dict[str, str] = {}
        checked: set[str] = set()
        while result.status:
            lacking = NO_WHEEL.search(" ".join(result.stderr.split()))
            if lacking is None or lacking[1] in sources:
                raise _explained(result.stderr, request, target)
            named = {lacking[1]}
            if not sources:
                listed = _without_wheel(request, recipe, target, work)
                named |= request.pinned
            suspects = {name: version for name, version in listed.items() if name in named}
            _require_pure(suspects, request, recipe, target, work)
            checked |= suspects.keys()
            sources += sorted({lacking[1], *suspects} - {*sources})
            result = _uv(compile_argv(target, age.refresh, sources), recipe, work)
        text = _pinned(result.stdout, request.hashed)
        entries = {name: block for block in blocks(text) if (name := _name(block)) in sources}
        late = {name: _version(block) for name, block in entries.items() if name not in checked}
        _require_pure(late, request, recipe, target, work)
        for block in entries.values():
            text = text.replace(block, build(block, recipe, target, work))
    write(cached, text)
    return Lock(text, request.key, tuple(entries))


def _uv(argv: list[str], recipe: Recipe, work: Path) -> Result:
    return run(argv, cwd=work, check=False, env={"NO_COLOR": "1", **index_env(recipe)})


def _without_wheel(request: _Request, recipe: Recipe, target: Target, work: Path) -> dict[str, str]:
    """Return the requirements whose newest allowed version has no wheel for the target, with that version.

    Reads only the index. If uv fails, returns {}, because uv then explains the complete resolution.
    """
    files = ["--constraints=constraints.txt", "requirements.txt"]
    place = [f"--python-version={target.python_version}", f"--python-platform={target.uv_platform}"]
    result = _uv(listing_argv(place, files), recipe, work)
    packages = [] if result.status else tomllib.loads(result.stdout).get("packages", [])
    return {package["name"]: package["version"] for package in packages if not package.get("wheels")}


def _require_pure(releases: Mapping[str, str], request: _Request, recipe: Recipe, target: Target, work: Path) -> None:
    """Raise WheelError for those of these releases (name to version) that have compiled wheels for other systems.

    Their source is not pure Python, so bake refuses them without a download or a build.
    """
    compiled = _compiled(releases, recipe, work) if releases else set()
    if not compiled:
        return
    rows = {f"{name}=={releases[name]}": request.location(name) for name in sorted(compiled)}
    reason = f"no wheel for Python {target.python_version} on {target.name}"
    if len(rows) == 1:
        ((pin, place),) = rows.items()
        message = f"{place}: " * bool(place) + f"{pin} has {reason}"
    else:
        listed = ", ".join(pin + f" ({place})" * bool(place) for pin, place in rows.items())
        message = f"{len(rows)} requirements have {reason}: {listed}"
    raise WheelError(message, WITHOUT_WHEEL)


def _compiled(releases: Mapping[str, str], recipe: Recipe, work: Path) -> set[str]:
    """Return the names of the releases that have a wheel for a particular system or processor."""
    (work / "releases.txt").write_text("".join(f"{name}=={version}\n" for name, version in releases.items()))
    for python in OLDER_PYTHONS:
        result = _uv(listing_argv(["--universal", f"--python-version={python}"], ["releases.txt"]), recipe, work)
        if not result.status:
            packages = tomllib.loads(result.stdout).get("packages", [])
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


def listing_argv(place: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return uv's command that lists the files of each requirement as a pylock.toml, without dependencies.

    It allows sources, so that it lists releases without a matching wheel. Without dependencies, uv reads only the
    index: it downloads no wheel and builds nothing.
    """
    options = "--quiet --no-config --no-python-downloads --no-sources --no-deps --format=pylock.toml"
    return [uv.find_uv_bin(), "pip", "compile", *options.split(), f"--python={sys.executable}", *place, *files]


def compile_argv(target: Target, refresh: bool, sources: Sequence[str] = ()) -> list[str]:
    """Return uv's command that resolves requirements.txt and constraints.txt in its working folder.

    It considers only wheels, except for the packages in `sources`.
    """
    options = "--quiet --no-config --no-python-downloads --no-sources --only-binary=:all: --generate-hashes"
    output = "--no-header --no-annotate --no-emit-index-url"
    place = [f"--python={sys.executable}", f"--python-version={target.python_version}"]
    place.append(f"--python-platform={target.uv_platform}")
    fresh = ["--refresh"] if refresh else []
    fresh += [f"--no-binary={name}" for name in sources]
    files = ["--constraints=constraints.txt", "requirements.txt"]
    return [uv.find_uv_bin(), "pip", "compile", *options.split(), *output.split(), *place, *fresh, *files]


def _explained(stderr: str, request: _Request, target: Target) -> BakeError:
    """Return the error that matches uv's explanation."""
    words = TRACEBACK.sub("", re.sub(r"^error: ", "", stderr.strip()))
    flat = " ".join(words.split())

    def place(name: str) -> str:
        found = request.location(name)
        return f"{found}: " if found else ""

    if NO_NETWORK.search(flat):
        address = re.search(r"https?://[^/\s`)]+", flat)
        return NetworkError(
            f"The package index cannot be reached{f' at {address[0]}' if address else ''}",
            "Check the network, a proxy's settings, and `index` in bake.yaml.",
            words,
        )
    if found := NO_WHEEL.search(flat) or re.search(
        r"Failed to (?:build|download and build) `([\w.-]+?)(?:==[^`]*)?`", flat
    ):
        return WheelError(
            f"{place(found[1])}{found[1]} has no wheel for Python {target.python_version} on {target.name}",
            WITHOUT_WHEEL,
            words,
        )
    if found := re.search(r"(\S+) was not found in the package registry", flat):
        return RequirementError(
            f"{place(found[1])}the package index has no package {found[1]}", "Check the spelling of its name.", words
        )
    missing = re.search(r"there (?:is|are) no versions? of ([\w.-]+)(?:\[\S*?\])?(\S*)", flat)
    capped = re.search(r"only ([\w.-]+?)(?:[<>=!].*?)? is available and you require (\1\S*), we can", flat)
    if missing or capped:
        name, wanted = (
            (missing[1], missing[1] + missing[2]) if missing else (capped[1], capped[2]) if capped else ("", "")
        )
        return RequirementError(
            f"{place(name)}the package index has no release of {wanted}", "Require a version that exists.", words
        )
    if "No solution found" in flat:
        named = [line for line in request.lines if re.search(rf"(?<![\w-]){re.escape(line.name)}(?![\w-])", flat, re.I)]
        where = ", ".join(dict.fromkeys(f"{line.text} ({line.location})" for line in named))
        return ConflictError(
            f"The requirements conflict on Python {target.python_version}" + (f": {where}" if where else ""),
            "Relax one of the requirements that uv's explanation above names.",
            words,
        )
    return ProgramError("uv could not resolve the requirements", "Correct the cause that uv reports above.", words)


def _pinned(text: str, pins: dict[str, Line]) -> str:
    """Return the lock. For requirements with hashes, it has only those hashes."""
    for name, line in pins.items():
        block = next((found for found in blocks(text) if _name(found) == name), "")
        if block:
            kept = only(block, line.hashes)
            if not HASH.search(kept):
                raise RequirementError(
                    f"{line.location}: no file of {name} on the package index has one of its hashes",
                    "Correct the hashes, or remove them.",
                )
            text = text.replace(block, kept)
    return text


def blocks(text: str) -> list[str]:
    """Return the entries of a lock, each with its hashes."""
    return re.findall(r"^\S.*\n(?:[ \t]+.*\n)*", text, re.M)


def _name(block: str) -> str:
    return canonicalize_name(block.partition("==")[0])


def names(lock: Lock) -> set[str]:
    """Return the names of the distributions in a lock."""
    return {_name(block) for block in blocks(lock.text)}


def _version(block: str) -> str:
    return block.split(maxsplit=1)[0].partition("==")[2]


def only(block: str, hashes: frozenset[str]) -> str:
    """Return the entry of a lock with only those of its hashes that are in `hashes`."""
    kept = sorted(set(HASH.findall(block)) & hashes)
    return " \\\n".join([block.split(maxsplit=1)[0], *(f"    --hash=sha256:{value}" for value in kept)]) + "\n"
