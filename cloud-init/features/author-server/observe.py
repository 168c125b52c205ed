"""Find the paths in its source that the app writes, during a bake.

The app first runs on a scratch copy of its source that it owns. Its changes there determine the writable paths on the
real machine, where all others are read-only. OBSERVED lists them. It is part of the image, and later releases use it
too.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path, PurePosixPath
from types import ModuleType

import serving
from step import command, link, say, write

#: Exists in a bake, until this module has run.
WANTED = Path("/run/app-check/observe")
SCRATCH = Path("/var/lib/app-scratch")
OBSERVED = Path("/var/lib/app-observed.json")
#: Drop-ins that bind the copy over the source. app-configure deletes them after an interrupted bake.
DROP_INS = Path("/run/systemd/system")
UNITS = ("app.service", "app-job@.service")
CODE = {".py", ".pyc", ".pyi", ".so"}
#: Files that keep an empty folder in a repository.
PLACEHOLDERS = {".gitkeep", ".keep", ".gitignore", ".placeholder", ".empty"}
#: The suffixes of SQLite's files beside an open database.
BESIDE_DATABASES = ("-journal", "-wal", "-shm")
SQLITE = b"SQLite format 3\0"


@dataclass
class Observed:
    """Paths below the source that the app writes.

    `data` is kept forever, because no release ships it. Its values tell whether the path is a folder. `fresh` contains
    shipped files, so each release begins with its own copy. `refused` is code, which stays read-only.
    """

    data: dict[str, bool] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def manifest(folder: Path) -> dict[PurePosixPath, tuple]:
    """Return the size, time and inode of each path below a folder, to detect changes. Folders have ()."""
    facts_by_path = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in (*folders, *files):
            path = Path(parent, name)
            status = path.lstat()
            is_folder = name in folders and not path.is_symlink()
            facts = () if is_folder else (status.st_size, status.st_mtime_ns, status.st_ino)
            facts_by_path[PurePosixPath(path.relative_to(folder))] = facts
    return facts_by_path


def classify(before: dict, after: dict, folder: Path) -> Observed:
    """Return the class of each path that differs between two manifests. `folder` contains the files of `after`."""
    data: dict[PurePosixPath, bool] = {}
    fresh, refused = set(), set()
    for path in sorted({*before, *after}):
        if before.get(path) == after.get(path) or path.suffix == ".pyc" or _stands_beside(path, after):
            continue
        # The outermost path that the release does not ship; for a shipped path, the path itself.
        way = [*reversed(path.parents), path][1:]
        outer = next((each for each in way if each not in before), path)
        parent = outer.parent
        beside = [other for other in before if parent in other.parents and before[other]]
        closed = not parent.name or any(other.suffix in CODE for other in beside)
        shipped = path in before
        if shipped and path.suffix in CODE:
            refused.add(path)
        elif _is_database(folder / outer) or (not shipped and (closed or after[outer] == ())):
            data[outer] = after[outer] == ()
        elif closed:
            fresh.add(outer)
        elif all(other.name in PLACEHOLDERS for other in beside):
            data[parent] = True
        else:
            fresh.add(parent)
    kept = {str(path): data[path] for path in outermost(data)}
    return Observed(kept, [str(path) for path in outermost(fresh)], [str(path) for path in sorted(refused)])


def outermost(paths: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    """Return the paths that are below no other."""
    known = set(paths)
    return sorted(path for path in known if known.isdisjoint(path.parents))


def _is_database(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(SQLITE)) == SQLITE


def _stands_beside(path: PurePosixPath, after: dict) -> bool:
    """Return whether a path is one of SQLite's files beside a database."""
    return any(
        path.name.endswith(end) and path.with_name(path.name.removesuffix(end)) in after for end in BESIDE_DATABASES
    )


def watch(release: Path, recipe: dict, steps: ModuleType) -> None:
    """Run the app on a scratch copy of its source, write OBSERVED, and copy the data to its permanent place.

    Does nothing outside of a bake, and after the first run.
    """
    if not WANTED.exists():
        return
    WANTED.unlink()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(0o755)
    copy = SCRATCH / "source"
    # With hard links, the app could change the release itself.
    command("cp", "-a", release / "source", copy)
    command("chown", "-hR", "app:app", copy)
    binding = f"[Service]\nBindPaths={copy}:{release}/source\nReadWritePaths={release}/source\n"
    places = [DROP_INS / f"{unit}.d/70-scratch.conf" for unit in UNITS]
    try:
        for place in places:
            write(place, binding)
        command("systemctl", "daemon-reload")
        before = manifest(copy)
        steps.prepare(release, recipe, True, True)
        steps.collected.add(release)
        link(serving.DOOR, serving.SOCKET)
        serving.start(serving.APP)
        serving.await_health(recipe)
        # Two running apps could need the same port or lock.
        command("systemctl", "stop", "app.service")
        author = load(release, "author")
        if not author.ask(release, recipe):
            serving.start(serving.APP)
            visit(release, recipe, author)
    finally:
        command("systemctl", "stop", "app.service", "app.socket")
        for place in places:
            place.unlink(missing_ok=True)
        command("systemctl", "daemon-reload")
    observed = classify(before, manifest(copy), copy)
    for name in observed.data:
        # Run as the app, which owns both folders. The paths in bake.yaml are links, and already at their place.
        argv = ["sh", "-euc", MOVE, "sh", copy / name, steps.DATA / name]
        subprocess.run(argv, check=True, umask=0o027, **steps.OWNER)
    shutil.rmtree(SCRATCH)
    write(OBSERVED, json.dumps(asdict(observed)) + "\n")
    say(f"observed: {observed}")
    steps.keep(release, recipe)


def load(release: Path, name: str) -> ModuleType:
    """Return a module of a release."""
    module = ModuleType(name)
    SourceFileLoader(name, f"{release}/settings/{name}.py").exec_module(module)
    return module


def visit(release: Path, recipe: dict, author: ModuleType) -> None:
    """Request the app's pages, because requests may make it write. The answers are discarded; the proof checks them."""
    name = (serving.NAMES.read_text().split() or ["localhost"])[0].replace("*", "www")
    where = {"url": f"https://{name}", "connect": ("127.0.0.1", 443), "seconds": author.SECONDS}
    author.crawl(release, {**where, **author.pages(recipe.get("check") or {})})


#: Copies $1 to $2.
MOVE = 'mkdir -p "$(dirname "$2")"; cp -rP --no-preserve=mode "$1" "$2"'
