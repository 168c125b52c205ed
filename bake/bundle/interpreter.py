"""Find and fetch the interpreter for an app whose Python is not Debian's own. bake never runs it on this computer.

uv's list of Python downloads has the address of each archive and its SHA-256. uv fetches the archive and verifies it,
and bake keeps the archive as it is. UV_PYTHON_INSTALL_MIRROR and UV_PYTHON_DOWNLOADS_JSON_URL have their usual effect.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import uv

from bake.config.debian import PYTHON_DATES, Target
from bake.config.recipe import Recipe
from bake.errors import NetworkError, PythonError
from bake.host import cache, paths
from bake.host.files import atomic_output, digest, file_digest
from bake.host.programs import Result, run
from bake.host.progress import Reporter

#: Options that make uv ignore its settings and a list that it has kept (it keeps one for a time, by URL), variables
#: that undo those of the user, and the variable of another list.
OPTIONS = ("--no-config", "--no-cache", "--no-progress")
SETTINGS = {"NO_COLOR": "1", "UV_PYTHON_DOWNLOADS": "manual", "UV_PYTHON_PREFERENCE": "only-managed"}
LIST = "UV_PYTHON_DOWNLOADS_JSON_URL"
#: The names of an archive and of its record in the cache.
ARCHIVE, RECORD = "python.tar.gz", "python.json"
#: uv's texts if an archive came incomplete, or not at all.
NO_NETWORK = re.compile(
    r"Failed to download|Failed to fetch|error sending request|HTTP status|Request failed|response body|timed out"
)
HINT = f"Check the network, and the variables UV_PYTHON_INSTALL_MIRROR and {LIST} if you set them."


@dataclass(frozen=True)
class Download:
    """A line of uv's list: the name of the download, the version of its Python, and the URL of its archive."""

    name: str
    version: str
    url: str

    @property
    def parts(self) -> tuple[int, ...]:
        """Return the three parts of the version."""
        return tuple(map(int, self.version.split(".")))


@dataclass(frozen=True)
class Interpreter:
    """An interpreter: its version, the URL and the SHA-256 of its archive, and the archive's path in the cache."""

    version: str
    url: str
    sha256: str
    archive: Path

    def to_json(self) -> str:
        """Return the record of its origin, which is part of the release."""
        return json.dumps({"version": self.version, "url": self.url, "sha256": self.sha256}, indent=1) + "\n"


def pin(recipe: Recipe, report: Reporter) -> Recipe:
    """Return a recipe with its Debian release and the complete version of its Python, if it has `python`.

    Raises PythonError if uv has no such Python, and NetworkError.
    """
    if recipe.python is None:
        return recipe
    target = recipe.target
    version = find(recipe.python).version if target.has_interpreter else recipe.python
    origin = f"the release contains Python {version}" if target.has_interpreter else f"it has Python {version}"
    if recipe.base is None:
        report.note(f"base: {target.name} ({origin})")
    return recipe.model_copy(update={"base": target.name, "python": version})


def find(version: str) -> Download:
    """Return the newest download of a version such as 3.12 or 3.12.8. Raises PythonError if there is none."""
    downloads = _downloads(["--all-versions", f"cpython-{version}-linux-x86_64-gnu"])
    if downloads:
        return max(downloads, key=lambda download: download.parts)
    newest = [download.version for download in _downloads([]) if download.parts[:2] in PYTHON_DATES]
    raise PythonError(
        f"python: uv has no download of Python {version} for x86-64",
        f"Write one of these in bake.yaml: {', '.join(newest)}." if newest else f"Correct the list in {LIST}.",
    )


def _downloads(options: Sequence[str]) -> list[Download]:
    """Return the plain downloads of CPython in uv's list, without those of pre-releases. Raises NetworkError."""
    result = _run_uv(["python", "list", "--only-downloads", "--output-format=json", *options], {})
    if result.status:
        raise NetworkError("uv's list of Python downloads cannot be read", HINT, result.stderr)
    downloads = (Download(row["key"], row["version"], row["url"]) for row in json.loads(result.stdout))
    return [
        download
        for download in downloads
        if download.name == f"cpython-{download.version}-linux-x86_64-gnu"
        and re.fullmatch(r"\d+\.\d+\.\d+", download.version)
    ]


def _run_uv(words: Sequence[str], env: dict[str, str]) -> Result:
    """Run uv for its managed interpreters, also where variables turn downloads off."""
    return run([uv.find_uv_bin(), *words, *OPTIONS], check=False, env={**SETTINGS, **env})


def fetch(target: Target, report: Reporter) -> Interpreter:
    """Return the interpreter of a target, from the cache or fetched now. Raises PythonError and NetworkError."""
    download = find(target.python_full_version)
    entry = paths.cache() / "python" / digest([download.name, download.url, os.environ.get(LIST, "")])
    if not _is_whole(entry):
        with cache.work_folder() as work:
            archive = _fetch(download, work)
            with atomic_output(entry) as partial:
                partial.mkdir()
                record = Interpreter(download.version, download.url, file_digest(archive), archive).to_json()
                cache.keep(partial / RECORD, record)
                archive.rename(partial / ARCHIVE)
        report.note(f"fetched Python {download.version} ({(entry / ARCHIVE).stat().st_size / 1e6:.0f} MB)")
    return Interpreter(**_record(entry), archive=entry / ARCHIVE)


def _is_whole(entry: Path) -> bool:
    """Return whether an entry of the cache exists, and its archive has the digest in its record."""
    recorded = _record(entry).get("sha256")
    return recorded is not None and (entry / ARCHIVE).is_file() and file_digest(entry / ARCHIVE) == recorded


def _record(entry: Path) -> dict[str, str]:
    """Return the record of the archive in an entry of the cache, or {} if it is missing or damaged."""
    values: dict[str, str] = json.loads(cache.kept(entry / RECORD) or "{}")
    return values


def _fetch(download: Download, work: Path) -> Path:
    """Return the archive of a download, which uv fetched to `work` and verified."""
    words = ["python", "install", "--no-bin", f"--install-dir={work / 'unpacked'}", download.name]
    result = _run_uv(words, {"UV_PYTHON_CACHE_DIR": str(work / "archives")})
    if "Hash mismatch" in result.stderr:
        raise PythonError(
            f"The SHA-256 of {download.url} differs from the one in uv's list",
            "Do not use that archive. Remove UV_PYTHON_INSTALL_MIRROR if you set it, and run the command again.",
            result.stderr,
        )
    if result.status and NO_NETWORK.search(result.stderr):
        raise NetworkError(f"{download.url} cannot be fetched", HINT, result.stderr)
    if result.status:
        raise PythonError(
            f"{download.url} is not an interpreter that uv can unpack", f"Correct the list in {LIST}.", result.stderr
        )
    (archive,) = (work / "archives").iterdir()
    _require_layout(archive, download.url)
    return archive


def _require_layout(archive: Path, url: str) -> None:
    """Raise PythonError unless an archive has the interpreter in a folder `python`, and nothing elsewhere."""
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
    except tarfile.TarError as error:
        raise PythonError(f"{url} is not a tar archive: {error}", f"Correct the list in {LIST}.") from None
    faults = [member.name for member in members if not _is_inside(member)]
    if not any(member.name == "python/bin/python3" for member in members):
        faults.append("python/bin/python3 is missing")
    if faults:
        raise PythonError(f"{url} does not have the layout install_only: {faults[0]}", f"Correct the list in {LIST}.")


def _is_inside(member: tarfile.TarInfo) -> bool:
    """Return whether a member is a file, a folder or a link below `python`, and a link leads there, too."""
    path = PurePosixPath(member.name)
    target = path.parent / member.linkname if member.issym() else PurePosixPath(member.linkname or member.name)
    is_known = member.isreg() or member.isdir() or member.issym() or member.islnk()
    return is_known and all(os.path.normpath(part).split("/")[0] == "python" for part in (path, target))
