"""Prepare the source of a machine's app: a bundle, or files in the document and a script that fetches the rest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from bake.bundle import release_files
from bake.bundle.exclusions import is_stdout
from bake.bundle.release import Release
from bake.config import contract
from bake.config.contract_files import MachineRecipe, Source
from bake.config.debian import Target
from bake.config.recipe import Recipe
from bake.config.sections import App
from bake.document import cloud_config
from bake.document.machine_files import File
from bake.errors import AppFolderError
from bake.host import git, paths
from bake.host.templates import render

#: Debian's pip, which python3-venv installs.
PIP = "python3 $(echo /usr/share/python-wheels/pip-*.whl)/pip"


@dataclass(frozen=True)
class Git:
    """A commit of a public repository, the path of the app's folder in it, and the tracked files of that folder."""

    url: str
    commit: str
    path: str
    files: frozenset[str]


@dataclass(frozen=True)
class FetchScript:
    """A script that fetches an app's files on the machine, and the Debian packages that it needs."""

    text: str
    packages: frozenset[str] = frozenset()


def stanza(target: Target, **digest: str) -> File:
    """Return the file that names the release of the app, by its `parts` or its `bundle`, and the release of Debian."""
    return File(contract.SOURCE, 0o644, Source.of(target, **digest).to_json().encode())


def bundled(target: Target, digest: str) -> list[File]:
    """Return the files of a machine that gets its app in a bundle."""
    return [stanza(target, bundle=digest)]


def inline(release: Release, recipe: Recipe, extras: tuple[str, ...] = ()) -> list[File]:
    """Return a document's files with the whole app and some EXTRAS. Its wheels come from the index."""
    return _parts(recipe, _members(release, recipe, extras))


def fetched(
    release: Release,
    recipe: Recipe,
    fetched_paths: frozenset[str],
    script: FetchScript,
    extras: tuple[str, ...] = (),
) -> list[File]:
    """Return a document's files with a script that fetches the app, made by `git_script` or `archive_script`.

    `fetched_paths` are those of the files that the script fetches, relative to the app's folder. The document contains
    all other files. The script removes fetched files that the release excludes.
    """
    members = _members(release, recipe, extras, frozenset(f"source/{path}" for path in fetched_paths))
    excluded_paths = [
        name for name, _ in release.exclusions if any(f"{path}/".startswith(name) for path in fetched_paths)
    ]
    exclude = render("release/fetch/exclude.sh.j2", paths=excluded_paths) if excluded_paths else ""
    members[contract.FETCH_SOURCE] = (0o644, (script.text + exclude).encode())
    if script.packages:
        machine_recipe = MachineRecipe.model_validate_json(members[contract.RECIPE][1])
        packages = tuple(sorted({*machine_recipe.packages, *script.packages}))
        machine_recipe = machine_recipe.model_copy(update={"packages": packages})
        members[contract.RECIPE] = (0o644, machine_recipe.to_json().encode())
    return _parts(recipe, members)


def git_script(url: str, commit: str, path: str = "") -> FetchScript:
    """Return a script that fetches a commit's files to source/. git verifies them by the commit's digest."""
    text = render("release/fetch/git.sh.j2", url=url, commit=commit, folder=_fetched_folder(path))
    return FetchScript(text, frozenset({"git"}))


def archive_script(url: str, sha256: str, unpack: str, path: str) -> FetchScript:
    """Return a script that fetches an archive's files to source/. `unpack` is its command, `path` a folder in it."""
    folder = _fetched_folder(path)
    text = render("release/fetch/archive.sh.j2", url=url, sha256=sha256, unpack=unpack, folder=folder)
    return FetchScript(text)


def _fetched_folder(path: str) -> str:
    """Return the path of the app's folder on the machine; `path` is that in the repository or the archive."""
    return f".fetched/{path}".rstrip("/")


def _parts(recipe: Recipe, members: dict[str, tuple[int, bytes]]) -> list[File]:
    """Return the document's files for a release. Its name is their digest, which app-setup computes as well."""
    if members[contract.LOCK][1].strip():
        index = f" -i {shlex.quote(recipe.index)}" if recipe.index else ""
        options = f"-q --no-deps --require-hashes --only-binary :all: --no-cache-dir{index}"
        # pip writes each wheel to a temporary folder first. On Debian 13, /tmp is in memory.
        script = f"TMPDIR=/var/tmp {PIP} download {options} -d wheels -r {contract.LOCK}\n"
        members = {**members, contract.FETCH_WHEELS: (0o644, script.encode())}
    rows = (
        f"{mode:o} {hashlib.sha256(content).hexdigest()} {name}\n"
        for name, (mode, content) in sorted(members.items(), key=lambda member: Path(member[0]).parts)
    )
    digest = hashlib.sha256("".join(rows).encode()).hexdigest()
    parts = [File(f"{contract.INCOMING}/{digest}/{name}", mode, content) for name, (mode, content) in members.items()]
    return [*parts, stanza(recipe.target, parts=digest)]


def _members(
    release: Release, recipe: Recipe, extras: tuple[str, ...], fetched_names: frozenset[str] = frozenset()
) -> dict[str, tuple[int, bytes]]:
    """Return a release's files, without wheels, other extras and `fetched_names`: name to mode and content.

    Links are followed. Raises AppFolderError for files that a document cannot contain.
    """
    app_features = set(release_files.feature_names(recipe))
    extras = tuple(name for name in extras if name in release_files.extras(recipe))
    # Without the certificate client, the files that certificates need are useless.
    useless_features = set() if "certificate" in extras else set(release_files.certificate_features(recipe))
    document_features = {*extras, *app_features} - useless_features
    excluded_names = fetched_names.union(
        *(
            release_files.feature_files(name)
            for name in {*release_files.EXTRAS, *release_files.BUNDLE_FEATURES, *app_features} - document_features
        )
    )
    excluded_names |= {release_files.AUTHOR}
    contents: dict[str, tuple[int, bytes]] = {}
    by_name = {member.name: member for member in release.members}
    for name, member in by_name.items():
        if name in excluded_names:
            continue
        # The machine fetches the wheels: a lock without a builder admits only those of the index.
        if not name.startswith("wheels/") and (member.target or member.source is not None):
            # The target of a link is no link itself, and in the release.
            file = by_name.get(os.path.normpath(Path(name).parent / member.target)) if member.target else member
            if file is None or file.source is None:
                raise AppFolderError(
                    f"{name} is a link to a folder, which a document cannot contain",
                    "Replace the link with the folder, or exclude the link in .bakeignore.",
                )
            _require_valid_name(name)
            with file.open() as stream:
                contents[name] = file.mode, stream.read()
    # Remove the comments from bake's own files, because bytes are scarce. The originals are in cloud-init/features.
    for name in sorted(document_features):
        for path in release_files.feature_files(name).keys() & contents.keys():
            mode, content = contents[path]
            contents[path] = (mode, cloud_config.minified(File(path, mode, content)).content)
    return contents


def _require_valid_name(name: str) -> None:
    """Raise AppFolderError for the name of a file that a document cannot contain."""
    if "\n" in name:
        raise AppFolderError(f"The name of {name!r} contains a line break", "Rename the file.")
    if re.search(r"[\udc80-\udcff]", name):
        raise AppFolderError(
            f"The name of {name!r} is not UTF-8, which a document cannot contain",
            "Rename the file, or exclude it in .bakeignore. `bake image` keeps it.",
        )


def script_of(app: App) -> FetchScript:
    """Return the script that fetches the source that a recipe names. Fetch it first, with `app_source.folder_of`."""
    if app.git and app.commit:
        return git_script(app.git, app.commit)
    unpack, path = json.loads((paths.cache() / "fetched" / str(app.sha256) / ".unpack").read_text())
    return archive_script(str(app.archive), str(app.sha256), unpack, path)


def remote(folder: Path) -> Git | str:
    """Return the commit of a clean checkout that the public can fetch by https, or else the reason why it cannot.

    The reason is empty if the folder is in no repository.
    """
    try:
        with git.open_repository(folder) as repository:
            return _remote(repository) if repository else ""
    except git.UnreadableError as error:
        return str(error)


def _remote(repository: git.Repository) -> Git | str:
    if repository.lfs_files():
        return "some of its files are in Git LFS, which machines do not fetch"
    # Ignore the file that the shell created for standard output.
    changes = [path for kind, path in repository.changes() if not (kind == "??" and is_stdout(repository.top / path))]
    if changes:
        suffix = f" and {len(changes) - 1} more are" if changes[1:] else " is"
        return f"{changes[0]}{suffix} not committed"
    if not (files := frozenset(repository.files())):
        return f"the repository {repository.top} has none of its files"
    url, commit = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", repository.origin), repository.commit
    if not re.fullmatch(r"https://[^-@/\s\[][^@/\s\[]*/\S+", url):
        return "its repository has no remote `origin` that is public by https"
    if len(commit) != 40:
        return "its repository uses SHA-256 commits, which machines do not fetch"
    # Every server serves a commit that is the head of a branch or a tag.
    commits = git.remote_commits(url)
    if not commits:
        return f"{url} does not answer, or asks for a password"
    if commit not in commits:
        return f"commit {commit[:12]} is not the head of a branch or a tag of {url}; push it"
    path = repository.folder.relative_to(repository.top).as_posix()
    return Git(url, commit, "" if path == "." else path, files)
