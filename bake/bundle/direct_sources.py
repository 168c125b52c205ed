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
from bake.host.download import download

#: The time of packed files in seconds since the epoch: 1980-01-02, because a wheel cannot contain older files.
OLDEST = 315619200


def fetch(line: Line, app_folder: Path, work: Path) -> Source:
    """Return the source of a direct reference, with its archive or wheel in a new folder of `work`.

    Raises NetworkError, SourceError or RequirementError, which name the line.
    """
    reference = line.reference
    assert reference is not None
    folder = work / "sources" / line.name
    folder.mkdir(parents=True)
    try:
        if reference.git:
            return _repository(line, reference, folder)
        if reference.url:
            return _file_at_url(line, reference, folder)
    except (NetworkError, SourceError) as error:
        raise type(error)(f"{line.location}: {error.message}", error.hint, error.details) from None
    path = app_folder / reference.path
    if not path.resolve().is_relative_to(app_folder.resolve()):
        raise RequirementError(f"{line.location}: {reference.path} leads out of the app's folder", "Move the files.")
    archive = _packed(path, list(walk(path, [])), folder) if path.is_dir() else path
    return Source(line.name, "", f"file:{reference.path}", files.file_digest(archive), "", line.location, archive)


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
    address = f"git+{reference.git}@{commit.hash}{subfolder}"
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
    if reference.sha256 not in ("", digest):
        raise SourceError(f"The SHA-256 of {reference.url} is {digest}", "Correct it, if you trust the file.")
    return Source(line.name, "", f"{reference.url}#sha256={digest}", digest, "", line.location, archive)


def _packed(project: Path, paths: list[Path], folder: Path) -> Path:
    """Return an archive of a project's files, the same for the same content."""
    archive = folder / "source.tar"
    with tarfile.open(archive, "w") as tar:
        for path in paths:
            info = tar.gettarinfo(path, f"source/{path.relative_to(project).as_posix()}")
            info.uid = info.gid = 0
            info.mtime = OLDEST
            info.uname = info.gname = ""
            if info.isfile():
                with path.open("rb") as stream:
                    tar.addfile(info, stream)
            elif info.isdir() or info.issym():
                tar.addfile(info)
    return archive
