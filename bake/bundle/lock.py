"""Resolve an app's requirements to a lock file with hashes.

uv resolves to wheels for the target's Python and glibc. A builder makes wheels of the
sources that lack one, until the resolution closes. Errors name the file and line of a
requirement.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from bake.app import asgi_server, flask_commands, wsgi_server
from bake.app.requirement_line import HASH, Line, applies
from bake.app.requirements_files import requirement_lines
from bake.bundle import built_wheels, direct_sources
from bake.bundle.built_wheels import BuiltWheel
from bake.bundle.resolution_errors import NO_WHEEL, direct_error, no_wheel_error, resolution_error
from bake.bundle.source import Source
from bake.bundle.uv_resolver import CompileOptions, compile_argv, listed_packages, run_uv, target_argv
from bake.config.debian import Target
from bake.config.recipe import Recipe
from bake.errors import RequirementError, WheelError
from bake.host import cache, paths
from bake.host.files import digest
from bake.host.programs import Result

#: What uv concludes from the facts in an explanation.
CONCLUSION = re.compile(r"we can conclude that .*?(?=And because |Because |hint: |$)")
#: uv lists the wheels of releases for these Python versions and newer ones. bake uses the first that every release
#: supports.
OLDER_PYTHONS = ("3.8", "3.10", "3.12")


@dataclass(frozen=True)
class Lock:
    """The app's requirements, pinned and with hashes, as a requirements file. `key` is the digest of its inputs.

    `notes` tell which requirements and indexes in the app's files are not used.
    """

    text: str
    key: str
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def hashes(self) -> frozenset[str]:
        """Return the SHA-256 digests (hex) of all files that the lock allows."""
        return frozenset(HASH.findall(self.text))


class Builder(Protocol):
    """Builds wheels. `pure_only`: only of sources that have no compiled wheels for other systems."""

    @property
    def pure_only(self) -> bool:
        """Return whether only pure-Python sources may be built."""

    def build(self, source: Source) -> BuiltWheel:
        """Return a wheel of a source. Raises WheelError or BuildError."""


@dataclass(frozen=True)
class Requirements:
    """An app's requirements for a Debian release, as uv takes them.

    `index` is the URL in bake.yaml. `key` is the digest of all inputs of the lock, except the index's content. `notes`
    tell which requirements and indexes in the app's files are not used. `optional` are requirements to leave out if
    they do not resolve. `build` is the key of bake.yaml. `references` are the lines that name a source, which may be a
    path in `folder`. The texts omit them.
    """

    target: Target
    index: str | None
    lines: tuple[Line, ...]
    text: str
    constraints: str
    key: str
    notes: tuple[str, ...]
    optional: str = ""
    build: bool = True
    references: tuple[Line, ...] = ()
    folder: Path = Path()

    @classmethod
    def read(cls, folder: Path, recipe: Recipe, target: Target) -> Requirements:
        """Read the requirements in the recipe's list, or in its file in the app's folder. Raises RequirementError."""
        source = "requirements.txt" if recipe.requirements is None else recipe.requirements
        index = recipe.index
        notes: list[str] = []
        lines = requirement_lines(folder, source, target, index or "", notes)
        optional = ""
        if recipe.asgi:
            lines = asgi_server.served(lines, notes)
            optional = asgi_server.optional(lines)
        elif recipe.server != "uwsgi":
            lines = wsgi_server.served(recipe.server, lines, notes)
        lines = flask_commands.served(lines, notes)
        references = tuple(line for line in lines if line.reference and applies(Requirement(line.text), target))
        plain_lines = [line for line in lines if not line.reference]
        requirements = [f"{line.text}\n" for line in plain_lines if not line.constraint]
        constraints = [f"{line.text}\n" for line in plain_lines if line.constraint]
        hashes = [(line.name, sorted(line.hashes)) for line in lines if line.hashes]
        version = importlib.metadata.version("uv")
        inputs = [requirements, constraints, hashes, target.python_version, target.uv_platform, index, version]
        inputs += [recipe.build, sorted(recipe.build_packages)]
        inputs += [optional] if optional else []
        key = digest(inputs + [direct_sources.content_digest(line, folder) for line in references])
        texts = "".join(requirements), "".join(constraints)
        return cls(
            target, index, tuple(lines), *texts, key, tuple(notes), optional, recipe.build, references, folder
        )  # fmt: skip

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


def _reference_key(line: Line) -> object:
    """Return the name of a direct reference, or the reference itself if its name is only a guess."""
    return line.name if line.reference and line.reference.name else line.reference


def _is_pin(text: str) -> bool:
    """Return whether a requirement admits one version only."""
    specifiers = Requirement(text).specifier
    return any(specifier.operator in ("==", "===") and not specifier.version.endswith("*") for specifier in specifiers)


def resolve(requirements: Requirements, age: cache.Age, builder: Builder | None = None) -> Lock:
    """Return the lock of an app's requirements. Use one in the cache if its age is admitted.

    Without a builder, a requirement without a wheel is refused.
    Raises RequirementError, ConflictError, WheelError, BuildError, NetworkError.
    """
    path = paths.cache() / "locks" / f"{requirements.key}.txt"
    if age.admits_file(path) and (kept_text := cache.kept(path)) is not None:
        lock = Lock(kept_text, requirements.key, requirements.notes)
        if _could_make(builder, lock):
            return lock
    with cache.work_folder() as work:
        text = _Resolution(requirements, builder, work, CompileOptions(refresh=age.refresh)).lock_text()
    cache.keep(path, text)
    return Lock(text, requirements.key, requirements.notes)


def _could_make(builder: Builder | None, lock: Lock) -> bool:
    """Return whether a builder, or a resolution without one, could have made a lock in the cache."""
    if builder is None:
        return not built_wheels.of_hashes(lock.hashes)
    return not (builder.pure_only and built_wheels.any_compiled(lock.hashes))


def resolve_build_requirements(
    lines: Sequence[str], index: str | None, target: Target, builder: Builder, newest: str
) -> Lock:
    """Return the lock of a source's build requirements, uploaded before the day `newest` (YYYY-MM-DD) unless it is "".

    Raises the errors of `resolve`.
    """
    requirements = Requirements(target, index, (), "".join(f"{line}\n" for line in lines), "", "", ())
    with cache.work_folder() as work:
        return Lock(_Resolution(requirements, builder, work, CompileOptions(newest=newest)).lock_text(), "")


@dataclass
class _Resolution:
    """A resolution to wheels in the folder `work`.

    `built` has the wheels built so far, by pin, and `direct` those of direct references, by name, with their source.
    """

    requirements: Requirements
    builder: Builder | None
    work: Path
    options: CompileOptions
    built: dict[str, BuiltWheel] = field(default_factory=dict)
    direct: dict[str, tuple[BuiltWheel, Source]] = field(default_factory=dict)
    text: str = ""

    def lock_text(self) -> str:
        """Return the text of the lock."""
        constraints, requirements = self._direct_texts()
        (self.work / "constraints.txt").write_text(self.requirements.constraints + constraints)
        self.text = self.requirements.text + requirements
        result = self._compile()
        while result.status:
            self._build_missing(result.stderr)
            result = self._compile()
        return "".join(map(self._entry, lock_entries(result.stdout)))

    def _direct_texts(self) -> tuple[str, str]:
        """Build the wheels of direct references, and return the constraints and the requirements that name them."""
        references = self.requirements.references
        if references and self.builder is None:
            raise direct_error(references, self.requirements.build)
        # The commit in a lock file, which is a constraint, is more precise than a branch in a project's file.
        lines = {_reference_key(line): line for line in sorted(references, key=lambda line: line.constraint)}
        wheels: dict[object, BuiltWheel] = {}
        for key, line in lines.items():
            assert self.builder is not None
            source = direct_sources.fetch(line, self.requirements.folder, self.work)
            wheel = wheels[key] = self.builder.build(source)
            self.direct[wheel.project] = (wheel, source)
        texts: dict[bool, str] = {True: "", False: ""}
        for line in references:
            assert line.reference is not None
            wheel, extras = wheels[_reference_key(line)], "" if line.constraint else line.reference.extras
            texts[line.constraint] += f"{line.reference.name or wheel.project}{extras} @ {wheel.path.as_uri()}\n"
        return texts[True], texts[False]

    def _compile(self) -> Result:
        """Run uv, and run it again without the optional requirements if it fails: they are never built."""
        folders = tuple(wheel.path.parent for wheel in self.built.values())
        options = CompileOptions(self.options.refresh, folders, self.options.newest)
        argv = compile_argv(self.requirements.target, options)
        for optional in dict.fromkeys([self.requirements.optional, ""]):
            (self.work / "requirements.txt").write_text(self.text + optional)
            result = run_uv(argv, self.requirements.index, self.work)
            if not result.status:
                break
        return result

    def _build_missing(self, explanation: str) -> None:
        """Build the release that a resolution lacks, and all pinned releases without a wheel.

        Raises the error that matches uv's explanation if there is none, and WheelError for releases that the builder
        may not build.
        """
        sentence = " ".join(explanation.split())
        match = NO_WHEEL.search(sentence)
        name = canonicalize_name(match[1]) if match else ""
        releases = {
            package["name"]: package
            for package in self._releases_without_wheel(name, sentence)
            if f"{package['name']}=={package['version']}" not in self.built
        }
        if name not in releases:
            raise resolution_error(explanation, self.requirements.lines, self.requirements.target)
        versions = {key: package["version"] for key, package in releases.items()}
        refused_names = {*versions} if self.builder is None else set()
        if self.builder is None or self.builder.pure_only:
            # Refused without a download or a build.
            refused_names = _compiled_names(versions, self.requirements.index, self.work) or refused_names
        refused_names |= {key for key, package in releases.items() if "sdist" not in package}
        if refused_names:
            locations = {f"{key}=={versions[key]}": self.requirements.location(key) for key in sorted(refused_names)}
            raise no_wheel_error(locations, self.requirements.target, self.requirements.build)
        assert self.builder is not None
        for package in releases.values():
            source = self._source(package)
            self.built[source.pin] = self.builder.build(source)

    def _releases_without_wheel(self, name: str, explanation: str) -> list[dict[str, Any]]:
        """Return the newest admitted release of `name` and of all pinned requirements, if it has no wheel.

        Reads only the index. If uv fails, returns [], because uv then explains the complete resolution.
        """
        if not name:
            return []
        facts = CONCLUSION.sub("", explanation)
        specifiers = re.findall(rf"depends? on {re.escape(name)}(?:\[[^]]*\])?([<>=!~][\w.<>=!~*+,]*[\w*])", facts)
        (self.work / "missing.txt").write_text(f"{name}{','.join(dict.fromkeys(specifiers))}\n")
        files = ["--constraints=constraints.txt", "requirements.txt", "missing.txt"]
        date_options = [f"--exclude-newer={self.options.newest}"] if self.options.newest else []
        options = [*target_argv(self.requirements.target), *date_options]
        packages = listed_packages(options, files, self.requirements.index, self.work) or []
        names = {name, *(pin.name for pin in self.requirements.pins)}
        return [package for package in packages if not package.get("wheels") and package["name"] in names]

    def _source(self, package: dict[str, Any]) -> Source:
        """Return the source in a row of a pylock.toml. Raises RequirementError for one that the app does not allow."""
        name, sdist = package["name"], package["sdist"]
        line = self.requirements.hashed_lines.get(name)
        sha256 = sdist.get("hashes", {}).get("sha256", "")
        if line and sha256 not in line.hashes:
            raise _hash_error(line)
        if not sha256 or "url" not in sdist:
            raise WheelError(
                f"{name}=={package['version']} has no wheel, and the index has no SHA-256 of its source",
                "Require another version.",
            )
        published = sdist["upload-time"].date().isoformat() if "upload-time" in sdist else ""
        return Source(name, package["version"], sdist["url"], sha256, published, self.requirements.location(name))

    def _entry(self, entry: str) -> str:
        """Return an entry of the lock with only the hashes that the app allows, or that of a wheel built here."""
        if wheel := self.built.get(entry.split(maxsplit=1)[0]):
            return _built_entry(wheel)
        if direct := self.direct.get(_name(entry.split(maxsplit=1)[0])):
            return f"{_built_entry(direct[0])}    # {direct[1].url}\n"
        if line := self.requirements.hashed_lines.get(_name(entry)):
            entry = with_hashes(entry, line.hashes)
            if not HASH.search(entry):
                raise _hash_error(line)
        return entry


def _built_entry(wheel: BuiltWheel) -> str:
    """Return the entry of a lock that admits only a wheel built here."""
    return f"{wheel.project}=={wheel.version} \\\n    --hash=sha256:{wheel.sha256}\n"


def _hash_error(line: Line) -> RequirementError:
    return RequirementError(
        f"{line.location}: no file of {line.name} on the package index has one of its hashes",
        "Correct the hashes, or remove them.",
    )


def _compiled_names(releases: Mapping[str, str], index: str | None, work: Path) -> set[str]:
    """Return the names of the releases (name to version) that have a wheel for a particular system or processor."""
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


def lock_entries(text: str) -> list[str]:
    """Return the entries of a lock, each with its hashes."""
    return re.findall(r"^\S.*\n(?:[ \t]+.*\n)*", text, re.M)


def _name(entry: str) -> str:
    return canonicalize_name(entry.partition("==")[0])


def package_names(lock: Lock) -> set[str]:
    """Return the names of the distributions in a lock."""
    return {_name(entry) for entry in lock_entries(lock.text)}


def wheel_versions(text: str) -> dict[str, str]:
    """Return the version of each distribution in the text of a lock."""
    pins = (entry.split(maxsplit=1)[0].partition("==") for entry in lock_entries(text))
    return {canonicalize_name(name.partition("[")[0]): version for name, _, version in pins if version}


def with_hashes(entry: str, hashes: frozenset[str]) -> str:
    """Return the entry of a lock with only those of its hashes that are in `hashes`, and with its comments."""
    digests = sorted(set(HASH.findall(entry)) & hashes)
    lines = " \\\n".join([entry.split(maxsplit=1)[0], *(f"    --hash=sha256:{value}" for value in digests)])
    return "\n".join([lines, *re.findall(r"^ +#.*", entry, re.M)]) + "\n"
