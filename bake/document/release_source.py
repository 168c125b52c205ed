"""Prepare the source of a machine's app: a bundle, or files in the document and a script that fetches the rest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bake.bundle import built_wheels, release_files
from bake.bundle.release import Release, is_stdout
from bake.config.debian import Target
from bake.config.recipe import Recipe
from bake.config.sections import App
from bake.document import cloud_config
from bake.document.machine_files import File
from bake.errors import AppFolderError, SourceError, WheelError
from bake.host import git, paths
from bake.host.download import download
from bake.host.files import atomic_output
from bake.host.programs import run

#: Debian's name of an architecture to the kernel's name.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: The folder where app-setup looks for files from a document and for uploads.
INCOMING = "/var/lib/app-incoming"
#: The version of a release's layout. A machine runs only releases with the layout of its own programs.
LAYOUT = "6"
#: Arguments to unpack archives, here and on a machine. -I: Python must not import modules from the current folder.
UNZIP = ("-I", "-m", "zipfile", "-e")
UNTAR = ("--no-same-owner", "--no-same-permissions", "-C")
#: Debian's pip, which python3-venv installs.
PIP = "python3 $(echo /usr/share/python-wheels/pip-*.whl)/pip"


@dataclass(frozen=True)
class Git:
    """A commit of a public repository, the path of the app's folder in it, and the tracked files of that folder."""

    url: str
    commit: str
    path: str
    files: frozenset[str]


def stanza(target: Target, **which: str) -> File:
    """Return /etc/app/source.json, which names the release of the app and the release of Debian."""
    said = {"release": target.name, "machine": MACHINES[target.arch], "layout": LAYOUT, **which}
    return File("/etc/app/source.json", 0o644, (json.dumps(said, indent=1) + "\n").encode())


def bundled(target: Target, digest: str) -> list[File]:
    """Return the files of a machine that gets its app in a bundle."""
    return [stanza(target, bundle=digest)]


def inline(release: Release, recipe: Recipe, extras: tuple[str, ...] = ()) -> list[File]:
    """Return a document's files with the whole app and some of release.EXTRAS. Its wheels come from the index."""
    return _parts(recipe, _members(release, recipe, extras))


def fetched(
    release: Release,
    recipe: Recipe,
    there: frozenset[str],
    script: str,
    extras: tuple[str, ...] = (),
) -> list[File]:
    """Return a document's files with a script that fetches the app, made by `git_script` or `archive_script`.

    `there` has the paths of the files that the script fetches, relative to the app's folder. The document contains all
    other files. The script removes fetched files that the release excludes.
    """
    members = _members(release, recipe, extras, frozenset(f"source/{path}" for path in there))
    unwanted = [name for name, _ in release.exclusions if any(f"{path}/".startswith(name) for path in there)]
    if unwanted:
        script += f"cd source\nrm -rf -- {shlex.join(unwanted)}\n"
    said = json.loads(members["recipe.json"][1])
    if "\ngit init " in script:
        said["packages"] = sorted({*said.get("packages", ()), "git"})
    members |= {
        "recipe.json": (0o644, (json.dumps(said, indent=1, sort_keys=True) + "\n").encode()),
        "fetch-source": (0o644, script.encode()),
    }
    return _parts(recipe, members)


def git_script(url: str, commit: str, path: str = "") -> str:
    """Return a script that fetches a commit's files to source/. git verifies them by the commit's digest."""
    url = shlex.quote(url)
    return f"""\
export HOME=/nonexistent GIT_TERMINAL_PROMPT=0 GIT_CONFIG_NOSYSTEM=1
rm -rf .fetched
git init -q .fetched
# Not every server gives out a commit that no branch ends in.
git -C .fetched fetch -q --depth=1 -- {url} {commit} || git -C .fetched fetch -q -- {url} '+refs/*:refs/all/*'
git -C .fetched checkout -q {commit} || {{ echo 'hopeless: there is no such commit; was it pushed there?'; exit 1; }}
rm -rf .fetched/.git
{_overlay(path)}"""


def archive_script(url: str, sha256: str, unpack: str, path: str) -> str:
    """Return a script that fetches an archive's files to source/. `unpack` is its command, `path` a folder in it."""
    return f"""\
rm -rf .fetched
mkdir .fetched
curl -fsSL --proto =https --connect-timeout 20 -o .archive {shlex.quote(url)}
echo '{sha256}  .archive' | sha256sum -c --quiet || {{ echo 'hopeless: another archive than was asked for'; exit 1; }}
{unpack}
rm .archive
chmod -R a+rX,go-w,ug-s .fetched
{_overlay(path)}"""


def _overlay(path: str) -> str:
    """Return the commands that copy the document's files over the fetched ones."""
    inside = shlex.quote(f".fetched/{path}".rstrip("/"))
    return f"cp -r source/. {inside}/\nrm -r source\nmv {inside} source\nrm -rf .fetched\n"


def _parts(recipe: Recipe, members: dict[str, tuple[int, bytes]]) -> list[File]:
    """Return the document's files for a release. Its name is their digest, which app-setup computes as well."""
    if members["lock.txt"][1].strip():
        index = f" -i {shlex.quote(recipe.index)}" if recipe.index else ""
        options = f"-q --no-deps --require-hashes --only-binary :all: --no-cache-dir{index}"
        members = {**members, "fetch-wheels": (0o644, f"{PIP} download {options} -d wheels -r lock.txt\n".encode())}
    rows = (
        f"{mode:o} {hashlib.sha256(content).hexdigest()} {name}\n"
        for name, (mode, content) in sorted(members.items(), key=lambda member: Path(member[0]).parts)
    )
    digest = hashlib.sha256("".join(rows).encode()).hexdigest()
    parts = [File(f"{INCOMING}/{digest}/{name}", mode, content) for name, (mode, content) in members.items()]
    return [*parts, stanza(recipe.target, parts=digest)]


def _members(
    release: Release, recipe: Recipe, extras: tuple[str, ...], there: frozenset[str] = frozenset()
) -> dict[str, tuple[int, bytes]]:
    """Return a release's files, without wheels, other extras and the files in `there`: name to mode and content.

    Links are followed. Raises WheelError and AppFolderError for files that a document cannot contain.
    """
    asked = set(release_files.feature_names(recipe))
    # Without the certificate client, the files that certificates need are useless.
    brought = {*extras, *asked} - (set() if "certificate" in extras else set(recipe.certificate.options))
    out = there.union(
        *(
            release_files.feature_files(name)
            for name in {*release_files.EXTRAS, *release_files.BUNDLE_FEATURES, *asked} - brought
        )
    )
    out |= {release_files.AUTHOR}
    found: dict[str, tuple[int, bytes]] = {}
    named = {member.name: member for member in release.members}
    for name, member in named.items():
        if name in out:
            continue
        if name.startswith("wheels/"):
            if built_wheels.is_built(name.removeprefix("wheels/")):
                raise WheelError(
                    f"{Path(name).name.split('-')[0]} has no wheel on the package index",
                    "Machines from a document build no wheels. Publish one on your own `index`, or bake an image.",
                )
        elif member.target or member.source is not None:
            # The target of a link is no link itself, and in the release.
            end = named.get(os.path.normpath(Path(name).parent / member.target)) if member.target else member
            if end is None or end.source is None:
                raise AppFolderError(
                    f"{name} is a link to a folder, which a document cannot contain",
                    "Replace the link with the folder, or exclude the link in .bakeignore.",
                )
            if "\n" in name:
                raise AppFolderError(f"The name of {name!r} contains a line break", "Rename the file.")
            with end.open() as stream:
                found[name] = end.mode, stream.read()
    # Remove the comments from bake's own files, because bytes are scarce. The originals are in cloud-init/features.
    for name in sorted(brought):
        for path in release_files.feature_files(name):
            mode, content = found[path]
            found[path] = (mode, cloud_config.bare(File(path, mode, content)).content)
    return found


def folder_of(folder: Path, recipe: Recipe) -> Path:
    """Return the folder with the app's files: `folder`, or the source that the recipe names, fetched to the cache.

    Raises NetworkError, or SourceError if the source does not exist or its digest differs.
    """
    app = recipe.app
    if app is None or app.package:
        return folder
    address = str(app.git or app.archive)
    # Strip leading dots, because `..` would be another folder.
    name = re.sub(r"(\.git|\.zip|\.t\w+|\.tar\.\w+)?/*$", "", address).rpartition("/")[2].lstrip(".")
    place = paths.cache() / "fetched" / str(app.commit or app.sha256)
    if not place.exists():
        with atomic_output(place) as partial:
            partial.mkdir()
            into = partial / (name or "app")
            if app.git:
                git.check_out(app.git, str(app.commit), into)
            else:
                _unpack(app, into)
    return next(path for path in place.iterdir() if path.is_dir())


def script_of(app: App) -> str:
    """Return the script that fetches the source that a recipe names. Call `folder_of` first."""
    if app.git and app.commit:
        return git_script(app.git, app.commit)
    unpack, path = json.loads((paths.cache() / "fetched" / str(app.sha256) / ".unpack").read_text())
    return archive_script(str(app.archive), str(app.sha256), unpack, path)


def _unpack(app: App, into: Path) -> None:
    """Fetch and unpack an archive. If it contains a single folder, as a forge's archives do, unpack that folder."""
    path, files = into.with_name(".archive"), into.with_name(".files")
    files.mkdir()
    found = download(str(app.archive), path, "sha256")
    if found != app.sha256:
        raise SourceError(
            f"{app.archive} differs from the archive that bake.yaml names: its SHA-256 is {found}",
            "If its publisher replaced it, set `app.sha256` to the new digest from a trusted source.",
        )
    zipped = zipfile.is_zipfile(path)
    if not zipped and re.search("^[bcp]", run(["tar", "-tvf", path], check=False).stdout, re.MULTILINE):
        raise SourceError(
            f"{app.archive} contains a device or a pipe",
            "Set `app.archive` in bake.yaml to an archive of only files, folders and links.",
        )
    unpack: list[str | Path] = [sys.executable, *UNZIP, path, files] if zipped else ["tar", *UNTAR, files, "-xf", path]
    done = run(unpack, check=False)
    if done.status:
        raise SourceError(
            f"{app.archive} is neither a tar nor a zip archive",
            "Set `app.archive` in bake.yaml to the URL of the archive itself.",
            done.stderr.strip(),
        )
    path.unlink()
    inside = list(files.iterdir())
    if len(inside) == 1 and inside[0].is_symlink():
        raise SourceError(
            f"{app.archive} contains only the link {inside[0].name}",
            "Set `app.archive` in bake.yaml to an archive of the files themselves.",
        )
    alone = inside[0] if len(inside) == 1 and inside[0].is_dir() else files
    command = ["python3", *UNZIP, ".archive", ".fetched"] if zipped else ["tar", *UNTAR, ".fetched", "-xf", ".archive"]
    into.with_name(".unpack").write_text(json.dumps([" ".join(command), "" if alone is files else alone.name]))
    alone.rename(into)
    shutil.rmtree(files, ignore_errors=True)


def commit_of(folder: Path, recipe: Recipe) -> str:
    """Return the commit of an app's files, with `-dirty` if they differ from it; empty if there is none."""
    return (recipe.app.commit or "") if recipe.app else git.state(folder)


def remote(folder: Path) -> Git | str:
    """Return the commit of a clean checkout that the public can fetch by https, or else the reason why it cannot.

    The reason is empty if the folder is in no repository.
    """
    try:
        with git.open_repository(folder) as found:
            return _remote(found) if found else ""
    except git.UnreadableError as error:
        return str(error)


def _remote(found: git.Repository) -> Git | str:
    if found.lfs_files():
        return "some of its files are in Git LFS, which machines do not fetch"
    # Ignore the file that the shell created for standard output.
    paths = [path for kind, path in found.changes() if not (kind == "??" and is_stdout(found.top / path))]
    if paths:
        more = f" and {len(paths) - 1} more are" if paths[1:] else " is"
        return f"{paths[0]}{more} not committed"
    if not (files := frozenset(found.files())):
        return f"the repository {found.top} has none of its files"
    url, commit = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", found.origin), found.commit
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
    path = found.folder.relative_to(found.top).as_posix()
    return Git(url, commit, "" if path == "." else path, files)
