"""What an app needs, pinned and hashed, and the wheels of it in the cache.

uv resolves for the target's Python and glibc, pip fetches wheels. Only a package that
has none is built here, which runs its code; what comes out must be pure Python.
What the two are given is made from the app's own lines, each of which keeps its
place for the errors.
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
#: Of a traceback out of somebody's build, all but the exception.
TRACEBACK = re.compile(
    r"^[ \t]*Traceback \(most recent call last\):\n(?:.*\n)*?(?=[ \t]*[\w.]+(?:Error|Exception|Exit)\b)", re.M
)
WITHOUT_WHEEL = (
    "Allow another version, take a package that has wheels (psycopg2-binary for psycopg2, say), "
    "or put a wheel of it on a package `index`."
)
#: uv lists the wheels of releases for these Pythons and newer ones: for the first that every release admits.
OLDER_PYTHONS = ("3.8", "3.10", "3.12")
#: A lock leaves nothing to constrain; a machine's own constraints could only contradict it.
PIP = {"PIP_CONSTRAINT": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@dataclass(frozen=True)
class Lock:
    """All that the app needs, pinned and hashed, as a requirements file; `key` names what it was made from.

    `built` names the packages that were built just now, for want of a wheel.
    """

    text: str
    key: str
    built: tuple[str, ...] = ()

    @property
    def hashes(self) -> frozenset[str]:
        """SHA-256 (hex) of all files the lock allows."""
        return frozenset(HASH.findall(self.text))

    @property
    def consent(self) -> str:
        """The note that names the packages whose code was run to build them."""
        return f"built here from their sources, which ran their code: {', '.join(self.built)}"


@dataclass(frozen=True)
class _Request:
    """An app's requirements as uv takes them; `key` is the digest of everything that its answer depends on."""

    lines: list[Line]
    requirements: str
    constraints: str
    key: str

    @property
    def hashed(self) -> dict[str, Line]:
        """The lines that allow certain files alone, by name."""
        return {line.name: line for line in self.lines if line.hashes}

    @property
    def pinned(self) -> frozenset[str]:
        """Names of which a line allows exactly one version."""
        return frozenset(line.name for line in self.lines if _is_pin(line.text))

    def place(self, name: str) -> str:
        """Return `file:line` of a requirement, or nothing for one that another package asks for."""
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
    """Return the digest of everything that the lock depends on but the index. Raises RequirementError."""
    return _request(folder, recipe, target).key


def resolve(folder: Path, recipe: Recipe, target: Target, age: cache.Age) -> Lock:
    """Return the lock of an app's requirements: the cached one, while its age is admitted.

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
    """Return name and newest admitted version of the requirements that have no wheel for the target in that version.

    The index alone is asked. Empty where uv cannot tell: then its explanation of the whole resolution counts.
    """
    files = ["--constraints=constraints.txt", "requirements.txt"]
    place = [f"--python-version={target.python_version}", f"--python-platform={target.uv_platform}"]
    result = _uv(listing_argv(place, files), recipe, work)
    packages = [] if result.status else tomllib.loads(result.stdout).get("packages", [])
    return {package["name"]: package["version"] for package in packages if not package.get("wheels")}


def _require_pure(releases: Mapping[str, str], request: _Request, recipe: Recipe, target: Target, work: Path) -> None:
    """Raise WheelError with all of these releases (name to version) that have compiled wheels for other systems.

    Their source is more than Python, so that nothing needs to be downloaded or built to refuse them.
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
    """Return the names of the releases that have a wheel for one system or processor alone."""
    (work / "releases.txt").write_text("".join(f"{name}=={version}\n" for name, version in releases.items()))
    for python in OLDER_PYTHONS:
        result = _uv(listing_argv(["--universal", f"--python-version={python}"], ["releases.txt"]), recipe, work)
        if not result.status:
            packages = tomllib.loads(result.stdout).get("packages", [])
            return {package["name"] for package in packages if any(map(_is_compiled, package.get("wheels", ())))}
    return set()


def _is_compiled(wheel: Mapping[str, str]) -> bool:
    """Return whether a wheel of a pylock.toml fits one system or processor alone."""
    address = wheel.get("url") or wheel.get("path") or ""
    try:
        tags = parse_wheel_filename(wheel.get("name") or unquote(urlsplit(address).path).rpartition("/")[2])[3]
    except InvalidWheelFilename:
        return False
    return all(tag.platform != "any" for tag in tags)


def _built(block: str, recipe: Recipe, target: Target, work: Path) -> str:
    """A lock's entry for a package that has no wheel, with the hash of one that is built from its source."""
    wanted = block.split(maxsplit=1)[0]
    (work / "source.txt").write_text(block)
    try:
        # The same bytes from the same source, so that an app that did not change is known again.
        run(
            build_argv(wanted.partition("==")[0]),
            cwd=work,
            env={**PIP, **index_env(recipe), "SOURCE_DATE_EPOCH": "315532800"},
        )
    except ProgramError as error:
        if NO_NETWORK.search(error.details):
            raise _not_fetched(error, target) from None
        raise WheelError(
            f"{wanted} has no wheel, and one cannot be built here from its source",
            WITHOUT_WHEEL,
            TRACEBACK.sub("", error.details),
        ) from None
    (wheel,) = (work / "built").iterdir()
    if not wheel.name.endswith("-none-any.whl"):
        raise WheelError(
            f"{wanted} has no wheel, and is more than Python: it would run on this system alone", WITHOUT_WHEEL
        )
    digest = cache.file_digest(wheel)
    with cache.whole(_built_here() / wheel.name) as kept:
        wheel.replace(kept)
    return f"{wanted} \\\n    --hash=sha256:{digest}\n"


def _built_here() -> Path:
    return paths.cache() / "built"


def is_built(wheel: str) -> bool:
    """Whether a wheel of this name was built here, and no index has it."""
    return (_built_here() / wheel).exists()


def index_env(recipe: Recipe) -> dict[str, str]:
    """The recipe's index for uv and pip, with who asks where BAKE_INDEX_USERNAME and BAKE_INDEX_PASSWORD say so.

    By environment: others on this machine can read a command line. Nothing of it is kept.
    """
    if not recipe.index:
        return {}
    parts = urlsplit(recipe.index)
    user, password = (quote(os.environ.get(f"BAKE_INDEX_{name}", ""), safe="") for name in ("USERNAME", "PASSWORD"))
    address = parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl() if user else recipe.index
    return {"UV_DEFAULT_INDEX": address, "PIP_INDEX_URL": address}


def listing_argv(place: Sequence[str], files: Sequence[str]) -> list[str]:
    """uv's words for the files of each requirement as a pylock.toml, without what they require themselves.

    Sources are admitted, so that a release without a wheel that fits is listed, too. Without dependencies uv asks the
    index alone: it downloads no wheel and builds nothing.
    """
    options = "--quiet --no-config --no-python-downloads --no-sources --no-deps --format=pylock.toml"
    return [uv.find_uv_bin(), "pip", "compile", *options.split(), f"--python={sys.executable}", *place, *files]


def compile_argv(target: Target, refresh: bool, sources: Sequence[str] = ()) -> list[str]:
    """uv's words; it reads requirements.txt and constraints.txt in the folder it is started in.

    Wheels alone are looked at, but for the packages named as `sources`.
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
    """uv's explanation as one of our errors."""
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
            f"{place(found[1])}there is no package {found[1]}", "Check how its name is spelt.", words
        )
    missing = re.search(r"there (?:is|are) no versions? of ([\w.-]+)(?:\[\S*?\])?(\S*)", flat)
    capped = re.search(r"only ([\w.-]+?)(?:[<>=!].*?)? is available and you require (\1\S*), we can", flat)
    if missing or capped:
        name, wanted = (
            (missing[1], missing[1] + missing[2]) if missing else (capped[1], capped[2]) if capped else ("", "")
        )
        return RequirementError(f"{place(name)}there is no {wanted}", "Name a version that was released.", words)
    if "No solution found" in flat:
        named = [line for line in request.lines if re.search(rf"(?<![\w-]){re.escape(line.name)}(?![\w-])", flat, re.I)]
        where = ", ".join(dict.fromkeys(f"{line.text} ({line.place})" for line in named))
        return ConflictError(
            f"The requirements cannot all be met on Python {target.python_version}" + (f": {where}" if where else ""),
            "Loosen one of the versions the explanation names.",
            words,
        )
    return ProgramError("uv could not resolve the requirements", "Its own words are above.", words)


def _pinned(text: str, pins: dict[str, Line]) -> str:
    """The lock with only those hashes that the app's author allows, where they named any."""
    for name, line in pins.items():
        block = next((found for found in blocks(text) if _name(found) == name), "")
        if block:
            kept = only(block, line.hashes)
            if not HASH.search(kept):
                raise RequirementError(
                    f"{line.place}: no file of {name} on the index has that hash", "Compare the hashes."
                )
            text = text.replace(block, kept)
    return text


def blocks(text: str) -> list[str]:
    """A lock's entries, each with the lines of its hashes."""
    return re.findall(r"^\S.*\n(?:[ \t]+.*\n)*", text, re.M)


def _name(block: str) -> str:
    return canonicalize_name(block.partition("==")[0])


def _version(block: str) -> str:
    return block.split(maxsplit=1)[0].partition("==")[2]


def only(block: str, hashes: frozenset[str]) -> str:
    """A lock's entry with no other hashes than these."""
    kept = sorted(set(HASH.findall(block)) & hashes)
    return " \\\n".join([block.split(maxsplit=1)[0], *(f"    --hash=sha256:{value}" for value in kept)]) + "\n"


def wheel_platforms(target: Target) -> list[str]:
    """Platform tags that fit, newest first. pip knows of older manylinux only what it is told."""
    tags = [f"manylinux_{target.glibc[0]}_{minor}_x86_64" for minor in range(target.glibc[1], 4, -1)]
    return [*tags, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]


def download_argv(target: Target) -> list[str]:
    """pip's words; it reads lock.txt in the folder it is started in, and fills wheels/. abi3 and none go with cp3xx."""
    options = "--quiet --no-input --no-deps --require-hashes --only-binary=:all: --implementation=cp"
    place = [f"--python-version={target.python_version}", "--abi=cp{}{}".format(*target.python)]
    platforms = [f"--platform={tag}" for tag in wheel_platforms(target)]
    files = ["--requirement=lock.txt", "--dest=wheels", f"--find-links={_built_here()}"]
    return [sys.executable, "-m", "pip", "download", *options.split(), *place, *platforms, *files]


def build_argv(name: str) -> list[str]:
    """pip's words for a wheel of one package; it reads source.txt in the folder it is started in, and fills built/."""
    options = f"--quiet --no-input --no-deps --require-hashes --no-binary={name}"
    files = ["--requirement=source.txt", "--wheel-dir=built"]
    return [sys.executable, "-m", "pip", "wheel", *options.split(), *files]


def wheels(lock: Lock, target: Target, recipe: Recipe) -> list[Path]:
    """The lock's wheels for the target, in the cache, sorted by name; fetched unless all are there.

    Raises WheelError for one that does not fit or is not what the lock says, and NetworkError.
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
                # Another app may have the same wheel: to replace it would make that app's wheels look changed.
                if not kept.exists() or cache.file_digest(kept) != cache.file_digest(wheel):
                    wheel.replace(kept)
    fetched = [folder / wheel.name for wheel in found]
    facts = {"wheels": {path.name: _seen(path) for path in fetched}, "expects": shared_libraries.expected(fetched)}
    cache.write(index, json.dumps(facts))
    return fetched


def expects(lock: Lock, target: Target) -> dict[str, str]:
    """The libraries that the lock's wheels, once fetched, expect of the system: see `shared_libraries.expected`."""
    found: dict[str, str] = json.loads(_index(lock, target).read_text())["expects"]
    return found


def _index(lock: Lock, target: Target) -> Path:
    return paths.cache() / "wheels" / f"{cache.digest([lock.text, target.python, target.glibc, 'expects'])}.json"


def _seen(path: Path) -> list[int]:
    """What changes when a file is changed: a warm start looks at this, and `pack` at every byte."""
    if not path.exists():
        return []
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def verify(found: list[Path], lock: Lock) -> None:
    """Hold wheels against the lock, no other, none missing; and each against what wheels may hold."""
    allowed = lock.hashes
    strange = [wheel.name for wheel in found if cache.file_digest(wheel) not in allowed]
    if strange or len(found) != len(blocks(lock.text)):
        raise WheelError(
            f"The wheels are not those of the lock: {', '.join(strange) or f'{len(found)} are there'}",
            f"Remove {paths.cache() / 'wheels'} and bake again.",
        )
    for wheel in found:
        require_safe(wheel)


def _not_fetched(error: ProgramError, target: Target) -> NetworkError | WheelError:
    if found := re.search(r"No matching distribution found for ([^\s(]+)", error.details):
        message = f"{found[1]} has no wheel for Python {target.python_version} on {target.name}"
        if not NO_NETWORK.search(error.details):
            return WheelError(message, "Allow another version.", error.details)
    if "DO NOT MATCH THE HASHES" in error.details:
        return WheelError("A wheel is not the one the lock names", "Bake again with --refresh.", error.details)
    return NetworkError("The wheels could not be fetched", "Check the network and `index` in bake.yaml.", error.details)
