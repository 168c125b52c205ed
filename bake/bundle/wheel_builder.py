"""Build wheels of sources that have none: fetch a source and its build requirements, and build in a builder root.

bake runs nothing of a source itself. It tries the newest build requirements first. If the build fails, it tries those
of earlier days: the release of the target's Python, and changes of setuptools, but no day before the source's own.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from bake.bundle import (
    build_system,
    builder_root,
    built_wheels,
    interpreter,
    isolated_build,
    shared_libraries,
    uv_resolver,
    wheel_cache,
)
from bake.bundle.builder_root import BuilderRoot
from bake.bundle.built_wheels import BuiltWheel
from bake.bundle.lock import resolve_build_requirements
from bake.bundle.package_index import index_request
from bake.bundle.source import Source
from bake.bundle.wheel_contents import require_safe, required_sources
from bake.config.debian import Target
from bake.config.recipe import Recipe
from bake.errors import BuildError, ConflictError, RequirementError, WheelError
from bake.host import cache, files, paths
from bake.host.download import download
from bake.host.progress import Reporter
from bake.host.terminal import printable

#: pip's text if a build backend needs another package, which only it knows (get_requires_for_build_wheel).
MISSING = re.compile(r"No matching distribution found for (.+?)(?: \(from .*)?$", re.M)
#: setuptools' text if a compiler fails.
COMPILER = re.compile(rb"error: [Cc]ommand \W*[\w./-]*(gcc|g\+\+)\b.* (failed|returned)")
#: The build requirements that generate no code.
SETUPTOOLS = {"setuptools", "wheel", "packaging"}
#: The last days before setuptools removed parts that old sources need: 2to3 in 58.0.0 and Feature in 46.0.0, according
#: to its changelog. Debian 12's Python still runs those versions.
SETUPTOOLS_DATES = ("2021-09-03", "2020-03-07")
#: Headers of Python that newer versions lack, so that no package of Debian has them.
PYTHON_HEADERS = {"cStringIO.h", "eval.h", "grammar.h", "graminit.h", "longintrepr.h", "node.h", "parsetok.h"}
#: The time after a release of Python in which most packages learn to build with it.
KNOWN = timedelta(days=183)
#: The lines of a log that an error shows.
LAST_LINES = 25


@dataclass(frozen=True)
class LockOptions:
    """Options of a lock: the age that a cached one may have, and whether bake may build wheels of sources.

    bake builds none for documents: their machines fetch wheels from the index.
    """

    age: cache.Age = cache.A_WEEK
    builds: bool = True

    def may_build(self, recipe: Recipe) -> bool:
        """Return whether neither the options nor the recipe forbid building."""
        return self.builds and recipe.build

    def builder(
        self, recipe: Recipe, target: Target, report: Reporter, *, pure_only: bool = False
    ) -> WheelBuilder | None:
        """Return the builder of missing wheels, or None if bake may not build."""
        return WheelBuilder(recipe, target, self.age, report, pure_only) if self.may_build(recipe) else None


LOCK_OPTIONS = LockOptions()


@dataclass(frozen=True)
class WheelBuilder:
    """Builds wheels for a target with the index, the mirror and the build packages of a recipe.

    `pure_only`: only of sources without compiled wheels for other systems. `_pins` are the sources in progress.
    """

    recipe: Recipe
    target: Target
    age: cache.Age
    report: Reporter
    pure_only: bool = False
    _pins: list[str] = field(default_factory=list)

    def build(self, source: Source) -> BuiltWheel:
        """Return a wheel of a source, from the cache or built now. Print what was built, and how long it took.

        Raises BuildError, WheelError, NetworkError, and the errors of `builder_root.obtain`.
        """
        root_key = builder_root.key(self.target, self.recipe.build_packages, self.recipe.mirror)
        key = files.digest([source.sha256, root_key, *self._interpreter_key()])
        if source.archive and source.archive.suffix == ".whl":
            return _keep_wheel(source, source.archive, key)
        built = built_wheels.find(key)
        if built and (not self.age.refresh or cache.is_from_this_run(built.created)):
            return built
        if source.pin in self._pins:
            raise BuildError(f"To build {source.pin}, bake would need {source.pin} itself", "Require another version.")
        self.report.note(f"building {source.pin} from source in a {self.target.name} root without network …")
        root = builder_root.obtain(self.target, self.recipe.build_packages, self.recipe.mirror, self.age, self.report)
        if self.target.has_interpreter:
            root = replace(root, python=interpreter.fetch(self.target, self.report).archive)
        self._pins.append(source.pin)
        start_time = time.monotonic()
        try:
            with cache.work_folder() as work:
                wheel = self._build(source, root, work)
                _require_listed(source, wheel)
                libraries = {
                    library: root.package_of(library) for library in shared_libraries.required_libraries([wheel])
                }
                built = built_wheels.keep(wheel, key, time.time(), libraries)
        finally:
            self._pins.remove(source.pin)
        self.report.note(f"built {built.name} in {time.monotonic() - start_time:.0f} s")
        return built

    def _interpreter_key(self) -> list[str]:
        """Return the version of an interpreter that is not the root's own, for the key of a built wheel."""
        return [self.target.python_full_version] if self.target.has_interpreter else []

    def _build(self, source: Source, root: BuilderRoot, work: Path) -> Path:
        """Return the wheel of a source in `work`, built with the first build requirements that work."""
        archive = self._fetch(source, work)
        name = "-".join(filter(None, (source.name, source.version, self.target.name)))
        log = paths.cache() / "built" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        requirements = build_system.build_requirements(archive)
        if tool := build_system.rust_tool(requirements):
            raise _rust_error(source, self.target, tool, self._newer_version(source, work))
        attempt = _Attempt(root, archive, log, source.assumed_version)
        for newest in _dates(source, self.target):
            wheel = self._build_with(requirements, newest, attempt)
            if wheel:
                if source.version:
                    isolated_build.require_match(wheel, source.name, source.version)
                return wheel
            if attempt.is_hopeless:
                break
        raise _failure(source, self.target, log, self._newer_version(source, work))

    def _newer_version(self, source: Source, work: Path) -> str:
        """Return a sentence with the next version of a source that has a wheel or knows the target's Python, or ""."""
        if source.archive or not source.version:
            return ""
        index = self.recipe.index
        version = uv_resolver.oldest_with_wheel(source.name, source.version, self.target, index, work)
        if version:
            return f" {source.name}=={version} has a wheel."
        day = date.fromisoformat(self.target.python_date) + KNOWN
        newer = f"{source.name}>{source.version}"
        version = uv_resolver.newest_of(day.isoformat(), newer, self.target, index, work)
        return f" {source.name}=={version} was the newest half a year after that Python." if version else ""

    def _build_with(self, requirements: Sequence[str], newest: str, attempt: _Attempt) -> Path | None:
        """Return the wheel built with requirements from before the day `newest`, or None if that fails or was tried.

        Adds the requirements that only the build backend knows, and builds again.
        """
        requirements = list(requirements)
        while True:
            try:
                lock = resolve_build_requirements(requirements, self.recipe.index, self.target, self, newest)
            except (ConflictError, RequirementError) as error:
                attempt.note(f"Its build requirements {', '.join(requirements)} cannot be resolved: {error.message}")
                return None
            wheels = tuple(wheel_cache.wheels(lock, self.target, self.recipe.index))
            if wheels in attempt.tried:
                return None
            wheel, output = attempt.run(wheels)
            missing_requirement = "" if wheel else _missing_requirement(output)
            if not missing_requirement or missing_requirement in requirements:
                return wheel
            requirements.append(missing_requirement)

    def _fetch(self, source: Source, work: Path) -> Path:
        """Return the archive of a source, fetched to `work`. Raises WheelError if its SHA-256 differs."""
        if source.archive:
            return Path(shutil.copy(source.archive, work))
        archive = work / PurePosixPath(unquote(urlsplit(source.url).path)).name
        if download(index_request(source.url, self.recipe.index), archive, "sha256") != source.sha256:
            raise WheelError(
                f"The SHA-256 of {source.url} differs from the one on the index", "Run `bake image --refresh`."
            )
        return archive


@dataclass
class _Attempt:
    """The attempts to build a source's archive in a builder root, with their log.

    `version` is for build backends that ask git for it, or "". `tried` are the build requirements so far.
    `is_hopeless`: others would not help.
    """

    root: BuilderRoot
    archive: Path
    log: Path
    version: str
    tried: list[tuple[Path, ...]] = field(default_factory=list)
    is_hopeless: bool = False

    def run(self, wheels: tuple[Path, ...]) -> tuple[Path | None, bytes]:
        """Return the wheel built with these build requirements, or None, and the output of the build."""
        self.tried.append(wheels)
        self.note(f"Building with {', '.join(wheel.name for wheel in wheels) or 'no build requirements'}")
        size = self.log.stat().st_size
        wheel = isolated_build.build(self.root, self.archive, wheels, self.log, self.version)
        output = files.end(self.log, size).encode()
        self.is_hopeless = isolated_build.KILLED.encode() in output or _is_compiler_fault(output, wheels)
        return wheel, output

    def note(self, text: str) -> None:
        """Add a line to the log."""
        with self.log.open("a") as stream:
            stream.write(f"bake: {text}\n")


def _keep_wheel(source: Source, path: Path, key: str) -> BuiltWheel:
    """Copy a wheel that a requirement names to the cache. Raises WheelError if it is not safe to unpack."""
    if "-" not in path.stem:
        raise WheelError(f"{source.location}: {path.name} is not the name of a wheel", "Correct it.")
    try:
        require_safe(path)
    except WheelError as error:
        raise WheelError(f"{source.location}: {error.message}", error.hint) from None
    _require_listed(source, path)
    with cache.work_folder() as work:
        return built_wheels.keep(Path(shutil.copy(path, work)), key, time.time(), {})


def _require_listed(source: Source, wheel: Path) -> None:
    """Raise WheelError if a wheel requires packages from a source that only it names."""
    if requirements := required_sources(wheel) if source.archive else []:
        raise WheelError(
            f"{source.location}: {source.name} requires {', '.join(requirements)}, which is not on the index",
            "Add that line to the app's requirements, and remove it from the package's.",
        )


def _dates(source: Source, target: Target) -> list[str]:
    """Return the days of the build requirements to try, newest first. "" is today."""
    if not source.published:
        return [""]
    dates = {max(source.published, date) for date in (target.python_date, *SETUPTOOLS_DATES)}
    return ["", *sorted(dates, reverse=True)]


def _is_compiler_fault(output: bytes, wheels: Sequence[Path]) -> bool:
    """Return whether the compiler failed, and no build requirement generates code: older ones would not help."""
    names = {wheel.name.partition("-")[0] for wheel in wheels}
    return names <= SETUPTOOLS and COMPILER.search(output) is not None


def _missing_requirement(output: bytes) -> str:
    """Return the requirement that the build backend needs and bake did not provide, or ""."""
    match = MISSING.search(output.decode(errors="replace"))
    try:
        requirement = Requirement(match[1].strip()) if match else None
    except InvalidRequirement:
        return ""
    return str(requirement) if requirement and not requirement.url else ""


def _rust_error(source: Source, target: Target, tool: str, newer_version: str) -> WheelError:
    """Return the error for a source in Rust. `newer_version` is a sentence for its hint."""
    location = f"{source.location}: " * bool(source.location)
    message, *reasons = target.sentences(
        f"{location}{source.pin} has no wheel", f", and bake cannot build it: {tool} would fetch Rust packages"
    )
    hint = f"Builds have no network. Require a version with a wheel.{newer_version}"
    return WheelError(message, f"{hint} Or upload a wheel to a package `index`.").with_reasons(*reasons)


def _failure(source: Source, target: Target, log: Path, newer_version: str) -> BuildError:
    """Return the error for a source that cannot be built, with the end of the log of the first attempt.

    `newer_version` is a sentence for its hint.
    """
    text = files.end(log)
    first_attempt, *_ = re.split(r"(?m)^bake: Building with (?=.)", text)[1:] or [text]
    lines = printable(first_attempt).splitlines()[-LAST_LINES:]
    header = re.search(r"fatal error: (\S+\.h): No such file", first_attempt)
    is_pythons_own = bool(header and header[1] in PYTHON_HEADERS)
    cause = f" because {header[1]} is missing" if header else ""
    cause += f", a header of Python itself that Python {target.python_version} does not have" if is_pythons_own else ""
    location = f"{source.location}: " * bool(source.location)
    is_old = bool(source.published) and source.published < target.python_date
    version = (
        f"Allow a newer version: {source.name} {source.version} was published on {source.published}, before Python "
        f"{target.python_version} ({target.python_date})."
        if is_old
        else "Or allow another version."
    )
    version += newer_version
    missing_part = header[1] if header else "a header or a program that is missing"
    packages = f"Add the Debian package with {missing_part} to bake.yaml, as in `build_packages: [libpq-dev]`."
    hints = [version] if (is_old and not header) or is_pythons_own else [packages, version]
    message, *reasons = target.sentences(
        f"{location}{source.pin} has no wheel", f", and its build from source failed{cause}"
    )
    return BuildError(message, f"{' '.join(hints)} The log is {log}.", "\n".join(lines)).with_reasons(*reasons)
