"""Resolve an app's requirements to a lock file with hashes, and fetch the wheels into the cache.

uv resolves for the target's Python and glibc, and pip fetches the wheels. If a package
has no wheel, bake builds one here, which runs the package's code. The result must be
pure Python. Errors name the file and line of a requirement.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import uv
from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from bake.app.requirements_files import HASH, Line, requirement_lines
from bake.bundle import shared_libraries
from bake.bundle.wheel_contents import require_safe
from bake.config.debian import Target
from bake.config.recipe import Recipe
from bake.errors import BakeError, ConflictError, NetworkError, ProgramError, RequirementError, WheelError
from bake.host import cache, paths
from bake.host.programs import Result, run

NO_NETWORK = re.compile(
    r"Failed to fetch|error sending request|Could not fetch URL|NewConnectionError|ConnectTimeout|Read ?[tT]imed? ?out"
    r"|valid authentication credentials|Connection refused|Connection broken|Temporary failure in name resolution"
)
NO_WHEEL = re.compile(r"Wheels are required for `([^`]+)`")
#: A traceback from the build of a package, except the exception itself.
TRACEBACK = re.compile(
    r"^[ \t]*Traceback \(most recent call last\):\n(?:.*\n)*?(?=[ \t]*[\w.]+(?:Error|Exception|Exit)\b)", re.M
)
WITHOUT_WHEEL = (
    "Allow another version, use a package that has wheels (for example psycopg2-binary instead of psycopg2), or upload "
    "a wheel to a package `index`."
)
#: uv lists the wheels of releases for these Python versions and newer ones. bake uses the first that every release
#: supports.
OLDER_PYTHONS = ("3.8", "3.10", "3.12")
#: pip's settings. The constraints of this computer could contradict the lock.
PIP = {"PIP_CONSTRAINT": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


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

    def place(self, name: str) -> str:
        """Return `file:line` of a requirement, or "" for a dependency of another package."""
        return next((line.place for line in self.lines if line.name == canonicalize_name(name)), "")


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
    key = cache.digest([wanted, limits, hashed, target.python_version, target.uv_platform, recipe.index, version])
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
            text = text.replace(block, _built(block, recipe, target, work))
    cache.write(cached, text)
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
    rows = {f"{name}=={releases[name]}": request.place(name) for name in sorted(compiled)}
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


def _built(block: str, recipe: Recipe, target: Target, work: Path) -> str:
    """Build a wheel for a package that has none, and return its entry for the lock."""
    wanted = block.split(maxsplit=1)[0]
    (work / "source.txt").write_text(block)
    try:
        # A reproducible wheel: the cache must recognize an app that has not changed.
        run(
            build_argv(wanted.partition("==")[0]),
            cwd=work,
            env={**PIP, **index_env(recipe), "SOURCE_DATE_EPOCH": "315532800"},
        )
    except ProgramError as error:
        if NO_NETWORK.search(error.details):
            raise _not_fetched(error, target) from None
        raise WheelError(
            f"{wanted} has no wheel, and building one from source failed",
            WITHOUT_WHEEL,
            TRACEBACK.sub("", error.details),
        ) from None
    (wheel,) = (work / "built").iterdir()
    if not wheel.name.endswith("-none-any.whl"):
        raise WheelError(
            f"{wanted} has no wheel, and is not pure Python: a wheel built here would not fit other systems",
            WITHOUT_WHEEL,
        )
    digest = cache.file_digest(wheel)
    with cache.whole(_built_here() / wheel.name) as kept:
        wheel.replace(kept)
    return f"{wanted} \\\n    --hash=sha256:{digest}\n"


def _built_here() -> Path:
    return paths.cache() / "built"


def is_built(wheel: str) -> bool:
    """Return whether bake built this wheel, because the index has none."""
    return (_built_here() / wheel).exists()


def index_env(recipe: Recipe) -> dict[str, str]:
    """Return the environment that sets the recipe's index for uv and pip.

    The URL contains BAKE_INDEX_USERNAME and BAKE_INDEX_PASSWORD if they are set. Other users of this computer can read
    a command line, but not the environment. bake does not store it.
    """
    if not recipe.index:
        return {}
    parts = urlsplit(recipe.index)
    user, password = (quote(os.environ.get(f"BAKE_INDEX_{name}", ""), safe="") for name in ("USERNAME", "PASSWORD"))
    address = parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl() if user else recipe.index
    return {"UV_DEFAULT_INDEX": address, "PIP_INDEX_URL": address}


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
        found = request.place(name)
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
        where = ", ".join(dict.fromkeys(f"{line.text} ({line.place})" for line in named))
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
                    f"{line.place}: no file of {name} on the package index has one of its hashes",
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


def wheel_platforms(target: Target) -> list[str]:
    """Return the platform tags that fit the target, newest first. pip needs each older manylinux tag explicitly."""
    tags = [f"manylinux_{target.glibc[0]}_{minor}_x86_64" for minor in range(target.glibc[1], 4, -1)]
    return [*tags, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]


def download_argv(target: Target) -> list[str]:
    """Return pip's command that downloads the wheels of lock.txt to wheels/. cp3xx includes the abi3 and none tags."""
    options = "--quiet --no-input --no-deps --require-hashes --only-binary=:all: --implementation=cp"
    place = [f"--python-version={target.python_version}", "--abi=cp{}{}".format(*target.python)]
    platforms = [f"--platform={tag}" for tag in wheel_platforms(target)]
    files = ["--requirement=lock.txt", "--dest=wheels", f"--find-links={_built_here()}"]
    return [sys.executable, "-m", "pip", "download", *options.split(), *place, *platforms, *files]


def build_argv(name: str) -> list[str]:
    """Return pip's command that builds a wheel of the package in source.txt in built/."""
    options = f"--quiet --no-input --no-deps --require-hashes --no-binary={name}"
    files = ["--requirement=source.txt", "--wheel-dir=built"]
    return [sys.executable, "-m", "pip", "wheel", *options.split(), *files]


def wheels(lock: Lock, target: Target, recipe: Recipe) -> list[Path]:
    """Return the lock's wheels in the cache, sorted by name. Fetch them unless all are there.

    Raises NetworkError, and WheelError for a wheel that does not fit the target or the lock.
    """
    folder, index = paths.cache() / "wheels", _index(lock, target)
    if index.exists():
        rows = json.loads(index.read_text())["wheels"]
        if all(_seen(folder / name) == row for name, row in rows.items()):
            return [folder / name for name in rows]
    with cache.work_folder() as work:
        (work / "wheels").mkdir()
        (work / "lock.txt").write_text(lock.text)
        try:
            run(download_argv(target), cwd=work, env={**PIP, **index_env(recipe)})
        except ProgramError as error:
            raise _not_fetched(error, target) from None
        found = sorted((work / "wheels").iterdir())
        verify(found, lock)
        with cache.disk_faults(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for wheel in found:
                kept = folder / wheel.name
                # Another app may use the same wheel. If this one replaced it, that app's wheels would seem changed.
                if not kept.exists() or cache.file_digest(kept) != cache.file_digest(wheel):
                    wheel.replace(kept)
    fetched = [folder / wheel.name for wheel in found]
    facts = {"wheels": {path.name: _seen(path) for path in fetched}, "expects": shared_libraries.expected(fetched)}
    cache.write(index, json.dumps(facts))
    return fetched


def expects(lock: Lock, target: Target) -> dict[str, str]:
    """Return what `shared_libraries.expected` found in the fetched wheels of a lock."""
    found: dict[str, str] = json.loads(_index(lock, target).read_text())["expects"]
    return found


def _index(lock: Lock, target: Target) -> Path:
    return paths.cache() / "wheels" / f"{cache.digest([lock.text, target.python, target.glibc, 'expects'])}.json"


def _seen(path: Path) -> list[int]:
    """Return a file's size and time, which show a change. `pack` verifies the content."""
    if not path.exists():
        return []
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def verify(found: list[Path], lock: Lock) -> None:
    """Raise WheelError unless the wheels are exactly those of the lock, and each one is safe to unpack."""
    allowed = lock.hashes
    strange = [wheel.name for wheel in found if cache.file_digest(wheel) not in allowed]
    if strange or len(found) != len(blocks(lock.text)):
        raise WheelError(
            f"The wheels differ from the lock: {', '.join(strange) or f'the number of files is {len(found)}'}",
            f"Remove {paths.cache() / 'wheels'} and bake again.",
        )
    for wheel in found:
        require_safe(wheel)


def _not_fetched(error: ProgramError, target: Target) -> NetworkError | WheelError:
    if found := re.search(r"No matching distribution found for ([^\s(]+)", error.details):
        message = f"{found[1]} has no wheel for Python {target.python_version} on {target.name}"
        if not NO_NETWORK.search(error.details):
            return WheelError(message, "Allow another version of it.", error.details)
    if "DO NOT MATCH THE HASHES" in error.details:
        return WheelError("The hash of a wheel differs from the lock", "Run `bake image --refresh`.", error.details)
    return NetworkError("The wheels could not be fetched", "Check the network and `index` in bake.yaml.", error.details)
