"""Parse requirements that name a repository, a URL or a path instead of a version on the index (PEP 508)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import parse_qs, urlsplit

#: The options that make a requirement editable.
EDITABLE = re.compile(r"(-e|--editable)[= ]\s*")
#: `name[extra] @ address`, and the beginnings of addresses without a name. No other requirement contains a slash.
NAMED = re.compile(r"(?P<name>[\w.-]*\w)\s*(?:(?P<extras>\[[^]]*\])\s*)?@\s*(?P<address>\S+)")
UNNAMED = re.compile(r"(\w+\+)?\w+:|[.~]|[^;]*/|.*\.(whl|zip|tar\.gz|tgz)(\[|$)")
#: A repository with its branch, tag or commit. Some files name the user git, which https does not need.
GIT = re.compile(r"git\+https://(?:git@)?(?P<place>[^@/\s]+/[^@\s]+)(?:@(?P<commit>[^-\s]\S*))?")
WEB = re.compile(r"https://[^@/\s]+/\S+")

FOLDER_HINT = "Move its files into the app's folder, and write their path there, as in `./lib`."
#: For the paths that `pip freeze` prints in conda's environments.
VERSION_HINT = (
    "If it is on the package index, write its version, as `pip list --format=freeze` prints it. Otherwise, move its "
    "files into the app's folder."
)
ADDRESS_HINT = "bake fetches public repositories and files by https only: `git+https://…@COMMIT` or `https://…`."
OWN_FOLDER_HINT = "Remove the line. The image contains the app's own folder."


class UnusableError(ValueError):
    """A direct reference that bake does not support. The text is the next step."""


@dataclass(frozen=True)
class DirectReference:
    """The source of a requirement: a git repository, a file at a URL, or a path in the app's folder.

    One of `git`, `url` and `path` is set. `commit` is a branch, a tag or a commit, or "" for the default branch.
    `folder` is the project's folder in the repository or archive, and `sha256` is that of the file at the URL. `name`
    is "" if the requirement does not contain it. `extras` have their brackets.
    """

    name: str = ""
    extras: str = ""
    marker: str = ""
    git: str = ""
    commit: str = ""
    url: str = ""
    path: str = ""
    folder: str = ""
    sha256: str = ""

    @property
    def address(self) -> str:
        """Return the address of the repository or file, or the path."""
        return f"git+{self.git}" if self.git else self.url or self.path

    @property
    def guessed_name(self) -> str:
        """Return the name, or the one that the last part of the address suggests.

        Raises UnusableError for an address that is not valid.
        """
        try:
            last = PurePosixPath(urlsplit(self.address).path).name
        except ValueError:
            raise UnusableError(ADDRESS_HINT) from None
        stem = re.split(r"-\d|\.(?:git|zip|whl|tar|tgz)\b", last)[0]
        return self.name or re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-") or "source"


def parse(text: str) -> DirectReference | None:
    """Return the direct reference in a requirement, or None. Raises UnusableError for one that bake cannot use."""
    requirement, *markers = re.split(r"\s;\s*|;\s+", EDITABLE.sub("", text), maxsplit=1)
    named = NAMED.fullmatch(requirement.strip())
    address = named["address"] if named else requirement.strip()
    if not UNNAMED.match(address):
        return None
    address, _, fragment = address.partition("#")
    values = {key: value[0] for key, value in parse_qs(fragment).items()}
    label = named["name"] + (named["extras"] or "") if named else values.get("egg", "")
    name, bracket, extras = label.partition("[")
    folder = _inner_path(values["subdirectory"]) if "subdirectory" in values else ""
    common = {"name": name, "extras": bracket + extras, "marker": "".join(markers).strip(), "folder": folder}
    if git := GIT.fullmatch(address):
        return DirectReference(**common, git=f"https://{git['place']}", commit=git["commit"] or "")
    if WEB.fullmatch(address) and not folder:
        return DirectReference(**common, url=address, sha256=values.get("sha256", ""))
    if re.match(r"\w+\+|\w+:(?<!file:)", address):
        raise UnusableError(ADDRESS_HINT)
    path = re.fullmatch(r"(?:file:(?://(?=/))?)?(.*?)(\[[^]]*\])?", address)
    assert path is not None
    common["extras"] = common["extras"] or path[2] or ""
    return DirectReference(**common, path=_inner_path(path[1]))


def _inner_path(path: str) -> str:
    """Return a path inside of a folder, normalized. Raises UnusableError for another one."""
    path = os.path.normpath(path)
    if path == ".":
        raise UnusableError(OWN_FOLDER_HINT)
    if path.startswith("/"):
        raise UnusableError(VERSION_HINT)
    if path.startswith(("~", "..", "$")):
        raise UnusableError(FOLDER_HINT)
    return path
