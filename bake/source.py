"""Where a machine gets its app from: a bundle, or parts in the document and a source to fetch the rest from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bake import lock, places, release, repository, store, userdata
from bake.bundle import Bundle, is_stdout
from bake.download import download
from bake.errors import AppFolderError, SourceError, WheelError
from bake.machine import File
from bake.recipe import App, Recipe
from bake.run import run
from bake.target import Target

#: Debian's name for an architecture to the kernel's.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: Where app-setup looks for what a document brings, and for what is uploaded.
INCOMING = "/var/lib/app-incoming"
#: How a release is laid out: a machine can serve those alone that were made for its programs.
LAYOUT = "6"
#: How archives are unpacked, here and on a machine. -I: the current folder may be the app's, with modules of its own.
UNZIP = ("-I", "-m", "zipfile", "-e")
UNTAR = ("--no-same-owner", "--no-same-permissions", "-C")
#: Debian's own pip, which python3-venv brings along.
PIP = "python3 $(echo /usr/share/python-wheels/pip-*.whl)/pip"


@dataclass(frozen=True)
class Git:
    """A commit of a public repository, where in it the app's folder is, and what of that it holds."""

    url: str
    commit: str
    path: str
    files: frozenset[str]


def stanza(target: Target, **which: str) -> File:
    """/etc/app/source.json: which release of the app, for which release of Debian."""
    said = {"release": target.name, "machine": MACHINES[target.arch], "layout": LAYOUT, **which}
    return File("/etc/app/source.json", 0o644, (json.dumps(said, indent=1) + "\n").encode())


def bundled(target: Target, digest: str) -> list[File]:
    """All of the app comes in a bundle."""
    return [stanza(target, bundle=digest)]


def inline(target: Target, parcel: Bundle, recipe: Recipe, extras: tuple[str, ...] = ()) -> list[File]:
    """The app's files are in the document, with some of release.EXTRAS; its wheels come from the index."""
    return _parts(target, recipe, _members(parcel, recipe, extras))


def fetched(
    target: Target,
    parcel: Bundle,
    recipe: Recipe,
    there: frozenset[str],
    script: str,
    extras: tuple[str, ...] = (),
) -> list[File]:
    """A script fetches the app's files, as `git_script` and `archive_script` have it.

    What is not `there`, paths as seen from the app's folder, is in the document; what a bundle leaves out is
    taken away again.
    """
    members = _members(parcel, recipe, extras, frozenset(f"source/{path}" for path in there))
    unwanted = [name for name, _ in parcel.kept_out if any(f"{path}/".startswith(name) for path in there)]
    if unwanted:
        script += f"cd source\nrm -rf -- {shlex.join(unwanted)}\n"
    said = json.loads(members["recipe.json"][1])
    if "\ngit init " in script:
        said["packages"] = sorted({*said.get("packages", ()), "git"})
    members |= {
        "recipe.json": (0o644, (json.dumps(said, indent=1, sort_keys=True) + "\n").encode()),
        "fetch-source": (0o644, script.encode()),
    }
    return _parts(target, recipe, members)


def git_script(url: str, commit: str, path: str = "") -> str:
    """A commit's files become source/. git itself verifies them: a commit's name is their digest."""
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
    """An archive's files become source/. `unpack` is the command for its kind; `path`, the folder in it."""
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
    """The files of the document's own are put on top of what was fetched."""
    inside = shlex.quote(f".fetched/{path}".rstrip("/"))
    return f"cp -r source/. {inside}/\nrm -r source\nmv {inside} source\nrm -rf .fetched\n"


def _parts(target: Target, recipe: Recipe, members: dict[str, tuple[int, bytes]]) -> list[File]:
    """The document's files for a release. Its name is their digest, as app-setup finds it."""
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
    return [*parts, stanza(target, parts=digest)]


def _members(
    parcel: Bundle, recipe: Recipe, extras: tuple[str, ...], there: frozenset[str] = frozenset()
) -> dict[str, tuple[int, bytes]]:
    """A bundle's files but wheels, other extras and what is `there`: name to mode and content. Links are followed."""
    asked = set(release.asked(recipe))
    # What certificates ask for is of no use without what orders them.
    brought = {*extras, *asked} - (set() if "certificate" in extras else set(recipe.certificate.asked))
    out = there.union(*(release.extra(name) for name in {*release.EXTRAS, *release.BUNDLED, *asked} - brought))
    out |= {release.AUTHOR}
    found: dict[str, tuple[int, bytes]] = {}
    with tarfile.open(parcel.path) as tar:
        for member in tar:
            if member.name in out:
                continue
            if member.name.startswith("wheels/"):
                if lock.is_built(member.name.removeprefix("wheels/")):
                    raise WheelError(
                        f"{Path(member.name).name.split('-')[0]} has no wheel on the package index",
                        "A pasted machine builds nothing: put a wheel of it on an `index` of yours, or bake an image.",
                    )
            elif not member.isdir():
                end = member
                if member.issym():
                    # Bundles hold no link to a link, and none that leads out.
                    place = os.path.normpath(Path(member.name).parent / member.linkname)
                    end = next((other for other in tar.getmembers() if other.name == place), member)
                stream = tar.extractfile(end) if end.isfile() else None
                if stream is None:
                    raise AppFolderError(
                        f"{member.name} is a link to a folder, which a document cannot hold",
                        "Put the folder itself there, or name the link in .bakeignore.",
                    )
                if "\n" in member.name:
                    raise AppFolderError(f"{member.name!r} has a line's end in its name", "Give it another name.")
                found[member.name] = (0o755 if end.mode & 0o100 else 0o644, stream.read())
    # Ours, and dear: read them, with their comments, in cloud-init/release.
    for name in sorted(brought):
        for path in release.extra(name):
            mode, content = found[path]
            found[path] = (mode, userdata.bare(File(path, mode, content)).content)
    return found


def folder_of(folder: Path, recipe: Recipe) -> Path:
    """The app's files: its own folder, or what the recipe names instead, fetched and kept in the cache.

    Raises NetworkError, and SourceError for what is not there, or is not what was asked for.
    """
    app = recipe.app
    if app is None or app.package:
        return folder
    address = str(app.git or app.archive)
    # Without dots at its start: `..` is a folder too.
    name = re.sub(r"(\.git|\.zip|\.t\w+|\.tar\.\w+)?/*$", "", address).rpartition("/")[2].lstrip(".")
    place = places.cache() / "fetched" / str(app.commit or app.sha256)
    if not place.exists():
        with store.whole(place) as partial:
            partial.mkdir()
            into = partial / (name or "app")
            if app.git:
                repository.check_out(app.git, str(app.commit), into)
            else:
                _unpack(app, into)
    return next(path for path in place.iterdir() if path.is_dir())


def script_of(app: App) -> str:
    """The script that fetches what a recipe names, once `folder_of` has."""
    if app.git and app.commit:
        return git_script(app.git, app.commit)
    unpack, path = json.loads((places.cache() / "fetched" / str(app.sha256) / ".unpack").read_text())
    return archive_script(str(app.archive), str(app.sha256), unpack, path)


def _unpack(app: App, into: Path) -> None:
    """Unpack an archive's files; of one that holds a single folder, as those of a forge do, that folder's."""
    path, files = into.with_name(".archive"), into.with_name(".files")
    files.mkdir()
    found = download(str(app.archive), path, "sha256")
    if found != app.sha256:
        raise SourceError(
            f"{app.archive} is not the archive that bake.yaml asks for: its SHA-256 is {found}",
            "Where it was made anew, put the new digest, from a place you trust, into `app.sha256`.",
        )
    zipped = zipfile.is_zipfile(path)
    if not zipped and re.search("^[bcp]", run(["tar", "-tvf", path], check=False).stdout, re.MULTILINE):
        raise SourceError(f"{app.archive} holds a device or a pipe", "Name an archive of files, folders and links.")
    unpack: list[str | Path] = [sys.executable, *UNZIP, path, files] if zipped else ["tar", *UNTAR, files, "-xf", path]
    done = run(unpack, check=False)
    if done.status:
        raise SourceError(
            f"{app.archive} is neither a tar nor a zip archive", "Name the archive itself.", done.stderr.strip()
        )
    path.unlink()
    inside = list(files.iterdir())
    if len(inside) == 1 and inside[0].is_symlink():
        raise SourceError(
            f"{app.archive} holds nothing but the link {inside[0].name}", "Name an archive of the files themselves."
        )
    alone = inside[0] if len(inside) == 1 and inside[0].is_dir() else files
    command = ["python3", *UNZIP, ".archive", ".fetched"] if zipped else ["tar", *UNTAR, ".fetched", "-xf", ".archive"]
    into.with_name(".unpack").write_text(json.dumps([" ".join(command), "" if alone is files else alone.name]))
    alone.rename(into)
    shutil.rmtree(files, ignore_errors=True)


def commit_of(folder: Path, recipe: Recipe) -> str:
    """Return the commit of an app's files, with `-dirty` where they differ from it; empty where there is none."""
    return (recipe.app.commit or "") if recipe.app else repository.state(folder)


def remote(folder: Path) -> Git | str:
    """Return the commit of a clean checkout that anybody can fetch by https, or else the reason why not.

    The reason is empty where the folder is in no repository.
    """
    try:
        with repository.opened(folder) as found:
            return _remote(found) if found else ""
    except repository.UnreadableError as error:
        return str(error)


def _remote(found: repository.Repository) -> Git | str:
    if found.lfs_files():
        return "files of it are in Git LFS, which machines do not fetch"
    # The shell has created the file for our output before we could look.
    paths = [path for kind, path in found.changes() if not (kind == "??" and is_stdout(found.top / path))]
    if paths:
        more = f" and {len(paths) - 1} more are" if paths[1:] else " is"
        return f"{paths[0]}{more} not committed"
    if not (files := frozenset(found.files())):
        return f"the repository {found.top} has none of its files"
    url, commit = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", found.origin), found.commit
    if not re.fullmatch(r"https://[^-@/\s\[][^@/\s\[]*/\S+", url):
        return "its repository has no remote `origin` that anybody can read by https"
    if len(commit) != 40:
        return "its repository has SHA-256 names, which machines do not fetch"
    # Where a branch or a tag ends in it, the server gives it to anybody who asks.
    commits = repository.advertised(url)
    if not commits:
        return f"{url} does not answer, or asks for a password"
    if commit not in commits:
        return f"commit {commit[:12]} is not what a branch or a tag of {url} ends in: push it"
    path = found.folder.relative_to(found.top).as_posix()
    return Git(url, commit, "" if path == "." else path, files)
