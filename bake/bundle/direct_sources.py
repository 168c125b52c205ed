"""Fetch the sources of requirements that name a repository, a URL or a path, and pack them for a build.

This module runs none of their code. Links are packed as links.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from packaging.version import InvalidVersion, Version

from bake.app.direct_reference import DirectReference
from bake.app.requirement_line import Line
from bake.bundle.exclusions import walk
from bake.bundle.source import Source
from bake.errors import NetworkError, RequirementError, SourceError
from bake.host import files, git
from bake.host.download import download, without_queries

#: The time of packed files in seconds since the epoch: 1980-01-02, because a wheel cannot contain older files.
OLDEST = 315619200


def fetch(line: Line, app_folder: Path, work: Path) -> Source:
    """Return the source of a direct reference, with its archive or wheel in a new folder of `work`.

    Raises NetworkError, SourceError or RequirementError, which name the line.
    """
    reference = line.reference
    assert reference is not None
    folder = work / "sources" / files.digest(reference)
    folder.mkdir(parents=True)
    try:
        if reference.git:
            return _repository(line, reference, folder)
        if reference.url:
            return _file_at_url(line, reference, folder)
        return _path(line, reference, app_folder, folder)
    except (NetworkError, SourceError) as error:
        message, details = without_queries(error.message), without_queries(error.details)
        raise type(error)(f"{line.location}: {message}", error.hint, details) from None


def content_digest(line: Line, app_folder: Path) -> str:
    """Return the digest of a direct reference, and of its files if it is a path."""
    reference = line.reference
    assert reference is not None
    path = app_folder / reference.path
    inputs: list[object] = [reference]
    if reference.path and path.is_file():
        inputs.append(files.file_digest(path))
    elif reference.path:
        inputs += [
            (str(name.relative_to(path)), files.file_digest(name)) for name in sorted(walk(path, [])) if name.is_file()
        ]
    return files.digest(inputs)


def _repository(line: Line, reference: DirectReference, folder: Path) -> Source:
    checkout = folder / "checkout"
    commit = git.check_out(reference.git, reference.commit, checkout)
    project = checkout / reference.folder
    if not project.is_dir() or not project.resolve().is_relative_to(checkout.resolve()):
        raise SourceError(f"{reference.git} has no folder {reference.folder}", "Correct the `subdirectory`.")
    archive = _packed(project, sorted(project.rglob("*")), folder)
    subfolder = f"#subdirectory={reference.folder}" if reference.folder else ""
    address = f"{without_queries(reference.address)}@{commit.hash}{subfolder}"
    sha256, version = files.digest([commit.hash, reference.folder]), _version(reference.commit, commit.hash)
    return Source(line.name, "", address, sha256, commit.date, line.location, archive, version)


def _version(reference: str, commit: str) -> str:
    """Return the version of a commit for build backends that would ask git for it: that of its tag, or 0 and the hash.

    A version that a project states itself comes first.
    """
    try:
        return str(Version(re.sub(r"^(refs/tags/)?([A-Za-z]\w*-)?", "", reference) if "." in reference else ""))
    except InvalidVersion:
        return f"0+git.{commit[:12]}"


def _file_at_url(line: Line, reference: DirectReference, folder: Path) -> Source:
    archive = folder / (PurePosixPath(unquote(urlsplit(reference.url).path)).name or "source.zip")
    digest = download(reference.url, archive, "sha256")
    _require_hash(line, reference, digest)
    address = f"{without_queries(reference.url)}#sha256={digest}"
    return Source(line.name, "", address, digest, "", line.location, archive)


def _path(line: Line, reference: DirectReference, app_folder: Path, folder: Path) -> Source:
    path = app_folder / reference.path
    if not path.resolve().is_relative_to(app_folder.resolve()):
        raise RequirementError(f"{line.location}: {reference.path} leads out of the app's folder", "Move the files.")
    archive = _packed(path, list(walk(path, [])), folder) if path.is_dir() else path
    digest = files.file_digest(archive)
    if archive == path:
        _require_hash(line, reference, digest)
    return Source(line.name, "", f"file:{reference.path}", digest, "", line.location, archive)


def _require_hash(line: Line, reference: DirectReference, digest: str) -> None:
    """Raise SourceError unless the fragment and the `--hash` options of a requirement allow its file."""
    if reference.sha256 not in ("", digest) or (line.hashes and digest not in line.hashes):
        raise SourceError(f"The SHA-256 of {reference.address} is {digest}", "Correct it, if you trust the file.")


def _packed(project: Path, paths: list[Path], folder: Path) -> Path:
    """Return an archive of a project's files, the same for the same content."""
    archive = folder / "source.tar"
    with tarfile.open(archive, "w") as tar:
        for path in paths:
            info = tar.gettarinfo(path, f"source/{path.relative_to(project).as_posix()}")
            if info.islnk():
                # tarfile packs the other names of a file as links without content.
                info.type, info.size, info.linkname = tarfile.REGTYPE, path.stat().st_size, ""
            info.uid = info.gid = 0
            info.mtime = OLDEST
            info.uname = info.gname = ""
            if info.isfile():
                with path.open("rb") as stream:
                    tar.addfile(info, stream)
            elif info.isdir() or info.issym():
                tar.addfile(info)
    return archive
