"""Where a release comes from: a bundle that holds it all, or the document's parts, a source and the package index.

What is fetched is pinned by a digest or a commit, and verified before it is unpacked.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

from step import StepError, command, patiently

#: Where uploads and the document's parts arrive, and what disks that carry a bundle are labelled.
INCOMING = Path("/var/lib/app-incoming")
SEED_LABELS = ("cidata", "CIDATA")
#: Another lock on the door: what is unpacked has the right digest. Debian 12's Python has none.
FILTER = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
#: Debian's own pip, of python3-venv; no virtualenv has to be made for it.
PIP = "/usr/share/python-wheels"
#: Seconds. A bundle may still be on its way.
BUNDLE_PATIENCE = 120


def digest_of(source: dict) -> str:
    """The name of the release that a stanza asks for."""
    return source.get("bundle") or source["parts"]


def find_bundle(digest: str) -> Path:
    """The bundle's path: uploaded, or on a seed disk, awaited with a bound."""
    deadline = time.monotonic() + BUNDLE_PATIENCE
    seed = Path("/run/app-seed")
    while True:
        uploaded = INCOMING / f"{digest}.tar"
        if uploaded.exists():
            return uploaded
        for label in SEED_LABELS:
            device = Path("/dev/disk/by-label") / label
            if device.exists() and not os.path.ismount(seed):
                seed.mkdir(exist_ok=True)
                subprocess.run(["mount", "-o", "ro,nosuid,nodev,noexec", device, seed], stderr=subprocess.DEVNULL)
        if (seed / "bundle.tar").exists():
            return seed / "bundle.tar"
        if time.monotonic() > deadline:
            raise StepError(
                f"no bundle {digest} came within {BUNDLE_PATIENCE} s: looked in {INCOMING} and for a seed disk"
            )
        time.sleep(1)


def sha256(path: Path) -> str:
    """A file's digest."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(path: Path, digest: str) -> None:
    """Refuse a file that is not the one that was asked for."""
    if (found := sha256(path)) != digest:
        raise StepError(f"{path} has the digest {found}; the document asks for {digest}")


def untar(path: Path, into: Path) -> None:
    """Unpack an archive, nothing of it outside of `into`."""
    with tarfile.open(path) as tar:
        outside = [name for name in tar.getnames() if name.startswith("/") or ".." in name.split("/")]
        if outside:
            raise StepError(f"{path} would write outside of its release: {outside[0]}")
        tar.extractall(into, **FILTER)


def copy_parts(source: dict, into: Path) -> None:
    """The files of the release that the document itself brings, once they are all there."""
    folder = INCOMING / source["parts"]
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {str(path.relative_to(folder)): [path.stat().st_mode & 0o777, sha256(path)] for path in paths}
    stanza = {key: source[key] for key in source if key != "parts"}
    found = hashlib.sha256(json.dumps([stanza, files], sort_keys=True).encode()).hexdigest()
    if found != source["parts"]:
        raise StepError(f"{folder} does not hold what the document brings: its digest is {found}")
    shutil.copytree(folder, into, dirs_exist_ok=True)


def begin(source: dict, into: Path) -> None:
    """What is at hand of a release: all of a bundle, or the document's parts."""
    if "bundle" in source:
        bundle = find_bundle(source["bundle"])
        verify(bundle, source["bundle"])
        untar(bundle, into)
    else:
        copy_parts(source, into)
    (into / "source").mkdir(exist_ok=True)


def fetch(source: dict, into: Path) -> None:
    """The app's files, where the document only names them. Those that it brings itself are put on top."""
    work = into / ".fetched"
    if "git" in source:
        found = checkout(work, **source["git"])
    elif "archive" in source:
        found = download(work, **source["archive"])
    else:
        return
    shutil.copytree(into / "source", found, dirs_exist_ok=True)
    shutil.rmtree(into / "source")
    found.rename(into / "source")
    shutil.rmtree(work, ignore_errors=True)


def checkout(work: Path, url: str, commit: str, path: str = "") -> Path:
    """A commit's files. git itself verifies them: a commit's name is their digest."""
    git = ("git", "-C", work, "-c", "advice.detachedHead=false")
    env = {"GIT_TERMINAL_PROMPT": "0", "HOME": "/nonexistent"}
    command("git", "init", "-q", work)
    try:
        patiently(*git, "fetch", "-q", "--depth=1", url, commit, env=env)
    except StepError as problem:
        if "ref" not in str(problem):
            raise
        # Not every server gives out a commit that no branch ends in.
        patiently(*git, "fetch", "-q", url, "+refs/*:refs/all/*", env=env)
    try:
        command(*git, "checkout", "-q", commit)
    except StepError:
        raise StepError(f"{url} has no commit {commit}: was it pushed there?") from None
    shutil.rmtree(work / ".git")
    return work / path


def download(work: Path, url: str, sha256: str) -> Path:
    """An archive's files, tar or zip; of one that holds a single folder, as those of a forge do, that folder's."""
    path, files = work / "archive", work / "files"
    files.mkdir(parents=True)
    patiently("curl", "-fsSL", "--proto", "=https", "--connect-timeout", 20, "-o", path, url)
    verify(path, sha256)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(files)
    else:
        untar(path, files)
    inside = list(files.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else files


def fetch_wheels(source: dict, release: Path) -> None:
    """The wheels of a release's lock from the package index, each with the digest that the lock gives."""
    lock, wheels = release / "lock.txt", release / "wheels"
    if wheels.exists() or not lock.read_text().strip():
        return
    index = ("-i", source["index"]) if "index" in source else ()
    pip = next(Path(PIP).glob("pip-*.whl")) / "pip"
    options = ("-q", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-cache-dir", "--retries", 1)
    patiently(sys.executable, pip, "download", *options, *index, "-d", wheels, "-r", lock)
