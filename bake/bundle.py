"""App and locked wheels to one reproducible archive with a digest.

uv resolves for the target's Python and glibc, pip fetches: wheels only, so
nothing of a dependency runs here. What the two are given is made from the
app's own lines, each of which keeps its place for the errors.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uv
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from pathspec import GitIgnoreSpec

from bake import places, store
from bake.errors import (
    AppFolderError,
    BakeError,
    ConflictError,
    NetworkError,
    ProgramError,
    RequirementError,
    WheelError,
)
from bake.recipe import Recipe
from bake.run import run
from bake.target import Target

HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")
#: Options of a requirements file that change nothing: wheels with hashes are all we take.
IDLE_OPTIONS = re.compile(r"--(require-hashes|prefer-binary|only-binary|no-binary)\b")
NO_NETWORK = re.compile(
    r"Failed to fetch|error sending request|Could not fetch URL|NewConnectionError|ConnectTimeout|Read ?[tT]imed? ?out"
    r"|valid authentication credentials|Connection refused|Connection broken|Temporary failure in name resolution"
)

#: What never belongs into an image, why, and by which pattern (as in .gitignore).
LEFT_OUT = {
    "version control": (".git", ".hg", ".svn"),
    "secrets": (".env", ".env.*", "*.pem", "*.key", "id_rsa*", "id_ed25519*", ".ssh", ".aws", ".netrc"),
    "virtual environment": (".venv", "venv"),
    "cache": ("__pycache__/", "*.py[co]", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".tox/", ".nox/"),
    "Node's packages": ("node_modules",),
    "database": ("*.sqlite*", "*.db", "*.db-journal", "*.db-wal", "*.db-shm"),
    "build output": ("/build/", "/dist/", "*.egg-info/"),
    "Finder's notes": (".DS_Store",),
}
LEFT_OUT_SPECS = {why: GitIgnoreSpec.from_lines(patterns) for why, patterns in LEFT_OUT.items()}
IGNORE_FILES = (".bakeignore", ".gitignore")


@dataclass(frozen=True)
class Lock:
    """All that the app needs, pinned and hashed, as a requirements file; `key` names what it was made from."""

    text: str
    key: str

    @property
    def hashes(self) -> frozenset[str]:
        """SHA-256 (hex) of all files the lock allows."""
        return frozenset(HASH.findall(self.text))


@dataclass(frozen=True)
class Bundle:
    """The archive: `size` in bytes, `files` of the source, and what of it stayed out, each with the reason."""

    path: Path
    sha256: str
    size: int
    files: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A requirement, and where it stands."""

    text: str
    place: str
    name: str
    constraint: bool = False
    hashes: frozenset[str] = frozenset()


def requirement_lines(folder: Path, name: str, target: Target) -> list[Line]:
    """The requirements of a file, with those it includes. Raises RequirementError with file and line."""
    if name.endswith(".toml"):
        return _project_lines(folder / name, name, target)
    return list(_file_lines(folder, folder / name, "", False, ()))


def _read(path: Path, place: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RequirementError(f"{place or path}: {path.name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequirementError(f"{path} is not UTF-8 text", "Save it as UTF-8; PowerShell writes UTF-16.") from None


def _project_lines(path: Path, name: str, target: Target) -> list[Line]:
    text = _read(path, "")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequirementError(f"{name}: {error}", "Mend the TOML there.") from None
    project = table.get("project", {})
    wanted = project.get("requires-python", "")
    if wanted and target.python_version + ".0" not in SpecifierSet(wanted, prereleases=True):
        raise RequirementError(
            f"{name}: requires-python is {wanted!r}; {target.name} has Python {target.python_version}",
            "Allow that Python, or choose another `base` in bake.yaml.",
        )
    lines = []
    for requirement in project.get("dependencies", []):
        number = text[: text.find(requirement)].count("\n") + 1 if requirement in text else 1
        lines.append(_line(requirement, f"{name}:{number}", False))
    for source in table.get("tool", {}).get("uv", {}).get("sources", {}):
        if canonicalize_name(source) in {line.name for line in lines}:
            raise RequirementError(f"{name}: [tool.uv.sources] has {source}", "Put a wheel of it on a package `index`.")
    return lines


def _file_lines(folder: Path, path: Path, place: str, constraint: bool, above: tuple[Path, ...]) -> Iterator[Line]:
    if path in above:
        raise RequirementError(f"{place}: the file includes itself", "Take the line out.")
    here = os.path.relpath(path, folder)
    logical, start = "", 0
    for number, raw in enumerate([*_read(path, place).splitlines(), ""], 1):
        start = start if logical else number
        logical += re.sub(r"(^|\s)#.*", "", raw).strip()
        if logical.endswith("\\"):
            logical = logical[:-1] + " "
            continue
        text, logical, place = logical.strip(), "", f"{here}:{start}"
        include = re.fullmatch(r"(-r|--requirement|-c|--constraint)[= ]?\s*(.+)", text)
        if include:
            inner = path.parent / include[2].strip("\"' ")
            limits = constraint or include[1] in ("-c", "--constraint")
            yield from _file_lines(folder, Path(os.path.normpath(inner)), place, limits, (*above, path))
        elif text and not IDLE_OPTIONS.match(text):
            yield _line(text, place, constraint)


def _line(text: str, place: str, constraint: bool) -> Line:
    """One requirement, or RequirementError with the way out."""
    bare = re.sub(r"\s--hash[= ]\S+", "", text).strip()
    if re.match(r"(-i|--index-url|--extra-index-url|-f|--find-links|--no-index|--trusted-host)\b", bare):
        way = "Name one package index in bake.yaml, `index: https://…`, and take the line out."
    elif re.match(r"(-e|--editable)\b", bare) or re.match(r"[./~]|file:|.*\.whl$", bare):
        way = "The app's own folder is in the image as it is: take the line out. Others have to be on a package index."
    elif re.match(r"(git|hg|svn|bzr)\+|https?:", bare) or re.search(r"@\s*[\w+]+:", bare):
        way = "A machine must not depend on an address that moves: put a wheel on a package index, and name a version."
    else:
        try:
            name = canonicalize_name(Requirement(bare).name)
            return Line(bare, place, name, constraint, frozenset(HASH.findall(text)))
        except InvalidRequirement as error:
            way = f"Write it as name==version. {str(error).splitlines()[0]}."
    raise RequirementError(f"{place}: {bare!r} cannot be used", way)


def resolve(folder: Path, recipe: Recipe, target: Target, *, max_age_days: float, refresh: bool) -> Lock:
    """The lock of the app's requirements; a cached one while it is younger than `max_age_days`, unless `refresh`.

    Raises RequirementError, ConflictError, WheelError, NetworkError.
    """
    lines = requirement_lines(folder, recipe.requirements or "requirements.txt", target)
    wanted = [f"{line.text}\n" for line in lines if not line.constraint]
    limits = [f"{line.text}\n" for line in lines if line.constraint]
    pins = {line.name: line for line in lines if line.hashes}
    version = importlib.metadata.version("uv")
    hashed = [(line.name, sorted(line.hashes)) for line in pins.values()]
    key = store.digest([wanted, limits, hashed, target.python_version, target.uv_platform, recipe.index, version])
    cached = places.cache() / "locks" / f"{key}.txt"
    if cached.exists() and not refresh and store.age_days(cached.stat().st_mtime) < max_age_days:
        return Lock(cached.read_text(), key)
    with store.work_folder() as work:
        (work / "requirements.txt").write_text("".join(wanted))
        (work / "constraints.txt").write_text("".join(limits))
        result = run(compile_argv(recipe, target, refresh), cwd=work, check=False, env={"NO_COLOR": "1"})
    if result.status:
        raise _explained(result.stderr, lines, target)
    text = _pinned(result.stdout, pins)
    store.write(cached, text)
    return Lock(text, key)


def compile_argv(recipe: Recipe, target: Target, refresh: bool) -> list[str]:
    """uv's words; it reads requirements.txt and constraints.txt in the folder it is started in."""
    options = "--quiet --no-config --no-python-downloads --no-sources --only-binary=:all: --generate-hashes"
    output = "--no-header --no-annotate --no-emit-index-url"
    index = [f"--default-index={recipe.index}"] if recipe.index else []
    place = [f"--python={sys.executable}", f"--python-version={target.python_version}"]
    place.append(f"--python-platform={target.uv_platform}")
    fresh = ["--refresh"] if refresh else []
    files = ["--constraints=constraints.txt", "requirements.txt"]
    return [uv.find_uv_bin(), "pip", "compile", *options.split(), *output.split(), *place, *index, *fresh, *files]


def _explained(stderr: str, lines: list[Line], target: Target) -> BakeError:
    """uv's explanation as one of our errors."""
    words = re.sub(r"^error: ", "", stderr.strip())
    flat = " ".join(words.split())

    def place(name: str) -> str:
        found = [line.place for line in lines if line.name == canonicalize_name(name)]
        return f"{found[0]}: " if found else ""

    if NO_NETWORK.search(flat):
        address = re.search(r"https?://[^/\s`)]+", flat)
        return NetworkError(
            f"The package index cannot be reached{f' at {address[0]}' if address else ''}",
            "Check the network, a proxy's settings, and `index` in bake.yaml.",
            words,
        )
    if found := re.search(r"Wheels are required for `([^`]+)`", flat):
        return WheelError(
            f"{place(found[1])}{found[1]} has no wheel for Python {target.python_version} on {target.name}",
            "Allow another version, take a package that has wheels (psycopg2-binary for psycopg2, say), "
            "or put a wheel of it on a package `index`.",
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
        named = [line for line in lines if re.search(rf"(?<![\w-]){re.escape(line.name)}(?![\w-])", flat, re.I)]
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
        block = next((found for found in _blocks(text) if canonicalize_name(found.partition("==")[0]) == name), "")
        if block:
            kept = _only(block, line.hashes)
            if not HASH.search(kept):
                raise RequirementError(
                    f"{line.place}: no file of {name} on the index has that hash", "Compare the hashes."
                )
            text = text.replace(block, kept)
    return text


def _blocks(text: str) -> list[str]:
    """A lock's entries, each with the lines of its hashes."""
    return re.findall(r"^\S.*\n(?:[ \t]+.*\n)*", text, re.M)


def _only(block: str, hashes: frozenset[str]) -> str:
    """A lock's entry with no other hashes than these."""
    kept = sorted(set(HASH.findall(block)) & hashes)
    return " \\\n".join([block.split(maxsplit=1)[0], *(f"    --hash=sha256:{value}" for value in kept)]) + "\n"


def wheel_platforms(target: Target) -> list[str]:
    """Platform tags that fit, newest first. pip knows of older manylinux only what it is told."""
    tags = [f"manylinux_{target.glibc[0]}_{minor}_x86_64" for minor in range(target.glibc[1], 4, -1)]
    return [*tags, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]


def download_argv(recipe: Recipe, target: Target) -> list[str]:
    """pip's words; it reads lock.txt in the folder it is started in, and fills wheels/. abi3 and none go with cp3xx."""
    options = "--quiet --no-input --no-deps --require-hashes --only-binary=:all: --implementation=cp"
    place = [f"--python-version={target.python_version}", "--abi=cp{}{}".format(*target.python)]
    platforms = [f"--platform={tag}" for tag in wheel_platforms(target)]
    index = [f"--index-url={recipe.index}"] if recipe.index else []
    files = ["--requirement=lock.txt", "--dest=wheels"]
    return [sys.executable, "-m", "pip", "download", *options.split(), *place, *platforms, *index, *files]


def wheels(lock: Lock, target: Target, recipe: Recipe) -> list[Path]:
    """The lock's wheels for the target, in the cache, sorted by name; fetched unless all are there.

    Raises WheelError for one that does not fit or is not what the lock says, and NetworkError.
    """
    folder = places.cache() / "wheels"
    index = folder / f"{store.digest([lock.text, target.python, target.glibc])}.json"
    if index.exists():
        rows = json.loads(index.read_text())
        if all(_seen(folder / name) == row for name, row in rows.items()):
            return [folder / name for name in rows]
    with store.work_folder() as work:
        (work / "wheels").mkdir()
        (work / "lock.txt").write_text(lock.text)
        # A lock leaves nothing to constrain; a machine's own constraints could only contradict it.
        env = {"PIP_CONSTRAINT": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        try:
            run(download_argv(recipe, target), cwd=work, env=env)
        except ProgramError as error:
            raise _not_fetched(error, target) from None
        found = sorted((work / "wheels").iterdir())
        _verify(found, lock)
        with store.disk_faults(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for wheel in found:
                wheel.replace(folder / wheel.name)
    store.write(index, json.dumps({wheel.name: _seen(folder / wheel.name) for wheel in found}))
    return [folder / wheel.name for wheel in found]


def _seen(path: Path) -> list[int]:
    """What changes when a file is changed: a warm start looks at this, and `pack` at every byte."""
    if not path.exists():
        return []
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _verify(found: list[Path], lock: Lock) -> None:
    """Hold wheels against the lock: no other, none missing."""
    allowed = lock.hashes
    strange = [wheel.name for wheel in found if store.file_digest(wheel) not in allowed]
    if strange or len(found) != len(_blocks(lock.text)):
        raise WheelError(
            f"The wheels are not those of the lock: {', '.join(strange) or f'{len(found)} are there'}",
            f"Remove {places.cache() / 'wheels'} and bake again.",
        )


def _not_fetched(error: ProgramError, target: Target) -> NetworkError | WheelError:
    if found := re.search(r"No matching distribution found for ([^\s(]+)", error.details):
        message = f"{found[1]} has no wheel for Python {target.python_version} on {target.name}"
        if not NO_NETWORK.search(error.details):
            return WheelError(message, "Allow another version.", error.details)
    if "DO NOT MATCH THE HASHES" in error.details:
        return WheelError("A wheel is not the one the lock names", "Bake again with --refresh.", error.details)
    return NetworkError("The wheels could not be fetched", "Check the network and `index` in bake.yaml.", error.details)


def pack(folder: Path, recipe: Recipe, lock: Lock, wheels: list[Path], out: Path) -> Bundle:
    """Write the archive at `out`: recipe.json, lock.txt, source/ and wheels/, the same bytes for the same content.

    Raises AppFolderError for what cannot be read or points out of the folder, WheelError for a wheel the lock has not.
    """
    _verify(wheels, lock)
    left_out: list[str] = []
    kept = [path for path in sorted(_walk(folder, folder, [], left_out)) if path != out]
    for prefix, inside in (recipe.static or {}).items():
        if folder / inside != folder and folder / inside not in kept:
            raise AppFolderError(
                f"static: {prefix} needs the folder {inside}, which is left out",
                f"Write `!/{inside}/` into {folder / '.bakeignore'}.",
            )
    hashes = frozenset(map(store.file_digest, wheels))
    with store.whole(out) as partial, tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as archive:
        # What only the build needs has no place in an image that is given away.
        build_only = {"index", "mirror"}
        dump = json.dumps(recipe.model_dump(mode="json", exclude=build_only), indent=1, sort_keys=True)
        _add_bytes(archive, "lock.txt", "".join(_only(block, hashes) for block in _blocks(lock.text)).encode())
        _add_bytes(archive, "recipe.json", dump.encode() + b"\n")
        _add(archive, folder, "source", folder)
        for path in kept:
            _add(archive, path, f"source/{path.relative_to(folder)}", folder)
        for wheel in sorted(wheels, key=lambda wheel: wheel.name):
            _add(archive, wheel, f"wheels/{wheel.name}", wheel.parent)
    files = sum(1 for path in kept if path.is_symlink() or not path.is_dir())
    return Bundle(out, store.file_digest(out), out.stat().st_size, files, tuple(left_out))


@dataclass(frozen=True)
class Rules:
    """An ignore file: its path below the app's folder, and what it says of names below its own."""

    place: str
    spec: GitIgnoreSpec

    def ignores(self, name: str) -> bool | None:
        """Whether a name stays out; None where the file does not mention it."""
        return self.spec.check_file(name[len(self.place.rpartition("/")[0]) :].lstrip("/")).include


def _reason(path: Path, name: str, stack: list[Rules]) -> str:
    """Why a path stays out, or nothing. `.bakeignore` has the last word; inner files speak before outer ones."""

    def said(file: str) -> tuple[bool | None, str]:
        verdicts = ((rules.ignores(name), rules.place) for rules in stack if rules.place.endswith(file))
        return next((verdict for verdict in verdicts if verdict[0] is not None), (None, ""))

    asked, place = said(".bakeignore")
    if asked is not None:
        return place if asked else ""
    for why, spec in LEFT_OUT_SPECS.items():
        if spec.match_file(name):
            return why
    if (path / "pyvenv.cfg").exists():
        return "virtual environment"
    if path == places.cache():
        return "bake's cache"
    ignored, place = said(".gitignore")
    if ignored:
        return place
    return "" if path.is_symlink() or path.is_dir() or path.is_file() else "neither file nor folder"


def _walk(folder: Path, here: Path, above: list[Rules], left_out: list[str]) -> Iterator[Path]:
    """What of the folder goes into the image; the rest to `left_out`, of a folder only its own name."""
    try:
        entries = sorted(here.iterdir())
        own = [path for path in entries if path.name in IGNORE_FILES and path.is_file()]
        rules = [
            Rules(
                path.relative_to(folder).as_posix(),
                GitIgnoreSpec.from_lines(path.read_text(errors="replace").splitlines()),
            )
            for path in own
        ]
    except OSError as error:
        raise AppFolderError(f"{error.filename} cannot be read: {error.strerror}", "Change its mode.") from None
    for path in entries:
        is_folder = path.is_dir() and not path.is_symlink()
        name = path.relative_to(folder).as_posix() + "/" * is_folder
        why = _reason(path, name, [*rules, *above])
        if why:
            left_out.append(f"{name} ({why})")
            continue
        yield path
        if is_folder:
            yield from _walk(folder, path, [*rules, *above], left_out)


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    """A tar header that says nothing of this machine or this day."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime, entry.uid, entry.gid = mode, 0, 0, 0
    return entry


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = _entry(name, 0o644)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _add(archive: tarfile.TarFile, path: Path, name: str, folder: Path) -> None:
    """Add a file, a folder or a link that stays inside `folder`."""
    try:
        if path.is_symlink():
            root, end = os.path.realpath(folder), os.path.realpath(path)
            if os.path.commonpath([root, end]) != root:
                raise AppFolderError(
                    f"{path} points out of the app's folder, to {Path(path).readlink()}",
                    "Put the file itself there, or name the link in .bakeignore.",
                )
            entry = _entry(name, 0o777)
            entry.type, entry.linkname = tarfile.SYMTYPE, os.path.relpath(end, os.path.realpath(path.parent))
            archive.addfile(entry)
        elif path.is_dir():
            entry = _entry(name, 0o755)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        else:
            with path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                entry = _entry(name, 0o755 if status.st_mode & 0o100 else 0o644)
                entry.size = status.st_size
                archive.addfile(entry, stream)
    except PermissionError as error:
        raise AppFolderError(
            f"{path} cannot be read: {error.strerror}", "Change its mode, or name it in .bakeignore."
        ) from None
