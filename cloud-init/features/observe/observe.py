"""Find out what the app writes beside its code, while an image is baked.

The app first runs on a scratch copy of its source that it owns. What it changes there decides which of its paths are
writable on the real machine, where all others are read-only. The list is a state of the machine: OBSERVED is part of
the image, and later releases inherit it.
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

#: There once, on a machine that is being baked.
WANTED = Path("/run/app-check/observe")
SCRATCH = Path("/var/lib/app-scratch")
OBSERVED = Path("/var/lib/app-observed.json")
#: Binds the copy over the source. app-configure takes away what an interrupted bake leaves of it.
DROP_INS = Path("/run/systemd/system")
UNITS = ("app.service", "app-job@.service")
CODE = {".py", ".pyc", ".pyi", ".so"}
#: Files that keep an empty folder in a repository.
PLACEHOLDERS = {".gitkeep", ".keep", ".gitignore", ".placeholder", ".empty"}
#: What SQLite puts beside a database while it is open, wherever a link to it stands.
BESIDE_DATABASES = ("-journal", "-wal", "-shm")
SQLITE = b"SQLite format 3\0"


@dataclass
class Observed:
    """Paths below the source that the app writes.

    `data` is kept for ever, since no release ships it: path to whether it is a folder. `fresh` has shipped files in it:
    each release begins with its own. `refused` is code, which stays read-only.
    """

    data: dict[str, bool] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def manifest(folder: Path) -> dict[PurePosixPath, tuple]:
    """Return what tells that a path below a folder changed: nothing for a folder, whose own entries tell."""
    found = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in (*folders, *files):
            path = Path(parent, name)
            status = path.lstat()
            is_folder = name in folders and not path.is_symlink()
            facts = () if is_folder else (status.st_size, status.st_mtime_ns, status.st_ino)
            found[PurePosixPath(path.relative_to(folder))] = facts
    return found


def classify(before: dict, after: dict, folder: Path) -> Observed:
    """Return what becomes of the paths that differ; `folder` has them as they are now."""
    data: dict[PurePosixPath, bool] = {}
    fresh, refused = set(), set()
    for path in sorted({*before, *after}):
        if before.get(path) == after.get(path) or path.suffix == ".pyc" or _stands_beside(path, after):
            continue
        # The outermost path that the release does not ship; of a shipped one, itself.
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
    """Return whether SQLite made a file for its own use."""
    return any(
        path.name.endswith(end) and path.with_name(path.name.removesuffix(end)) in after for end in BESIDE_DATABASES
    )


def watch(release: Path, recipe: dict, steps: ModuleType) -> None:
    """Run the app on a scratch copy of its source, once, and write OBSERVED; its data is put where it is kept."""
    if not WANTED.exists():
        return
    WANTED.unlink()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(0o755)
    copy = SCRATCH / "source"
    # A copy by links could change the release itself.
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
        # Two of them could want the same port, or lock.
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
    found = classify(before, manifest(copy), copy)
    for name in found.data:
        # As the app, whose folders both are. What bake.yaml names is there already, by a link.
        argv = ["sh", "-euc", MOVE, "sh", copy / name, steps.DATA / name]
        subprocess.run(argv, check=True, umask=0o027, **steps.OWNER)
    shutil.rmtree(SCRATCH)
    write(OBSERVED, json.dumps(asdict(found)) + "\n")
    say(f"observed: {found}")
    steps.keep(release, recipe)


def load(release: Path, name: str) -> ModuleType:
    """Return a module that a release brings."""
    module = ModuleType(name)
    SourceFileLoader(name, f"{release}/settings/{name}.py").exec_module(module)
    return module


def visit(release: Path, recipe: dict, author: ModuleType) -> None:
    """Ask the app itself for its pages, since it may write when it is visited. The proof judges the answers."""
    name = (serving.NAMES.read_text().split() or ["localhost"])[0].replace("*", "www")
    where = {"url": f"https://{name}", "connect": ("127.0.0.1", 443), "seconds": author.SECONDS}
    author.crawl(release, {**where, **author.pages(recipe.get("check") or {})})


#: Copies $1 to $2.
MOVE = 'mkdir -p "$(dirname "$2")"; cp -rP --no-preserve=mode "$1" "$2"'
