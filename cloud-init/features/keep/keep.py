"""Have certificates outlive the machine: what certbot has is kept encrypted in a folder, on a volume, or in a bucket.

A machine without a certificate gets back what is kept; what a machine has is kept, where that is not what is kept
already. With the word `restore`, the first half alone: app-configure calls it so, before nginx reads a certificate.
Lies in a release beside its settings; Python's standard library only.
"""

import contextlib
import fcntl
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Also where app-configure calls this.
sys.path.append("/usr/lib/app")

import certificate
from step import StepError, command, write

#: What opens the kept files, and closes them: an identity of age's, for root alone.
KEY = Path("/etc/app/certificate.key")
#: There on a machine that is only checked.
CHECKED = Path("/run/app-check")
#: What of certbot's is a certificate, as it is packed: what leads to something before what it leads to, which a renewal
#: meanwhile only adds to. A certificate counts as there by the first, so that one comes back last.
PARTS = ("renewal", "live", "archive")
ACCOUNTS = "accounts"
#: The kept file, and the one before it.
NAME, BEFORE = "certificate.age", "certificate.age.before"
LABELS, MOUNTED = Path("/dev/disk/by-label"), Path("/run/app/keep")
#: Seconds after the boot in which an order waits for a volume: consoles attach some when the machine already runs.
PATIENCE = 180
#: Seconds that a boot is held up by a network which is not there yet; the first look tries again.
SHORT = 20
RESTORE = "restore"


def run(*argv: object, given: bytes = b"") -> bytes:
    """Run a program; its standard output. Raises StepError with its first line on what went wrong."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, input=given, capture_output=True, timeout=120)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise StepError(f"{words[0]} failed with {done.returncode}: {said}")
    return done.stdout


def has() -> bool:
    """Whether this machine has a certificate of certbot's that is whole."""
    return any(certificate.kept(path.stem).names for path in certificate.CERTBOT.glob("renewal/*.conf"))


@contextlib.contextmanager
def place(where: str) -> Iterator[Path]:
    """The folder with the kept files, as long as it is needed: of a volume, or of a bucket.

    Raises StepError where it is not there.
    """
    if where.startswith("s3://"):
        patience = SHORT if RESTORE in sys.argv else PATIENCE
        with importlib.import_module("bucket").folder(where, (NAME, BEFORE), patience) as folder:
            yield folder
        return
    if not where.startswith("LABEL="):
        if not Path(where).is_dir():
            raise StepError(f"{where} is missing")
        yield Path(where)
        return
    device = LABELS / where.removeprefix("LABEL=")
    subprocess.run(["udevadm", "settle", "--timeout=10"])
    while not device.exists():
        if RESTORE in sys.argv or has() or time.monotonic() > PATIENCE:
            raise StepError(f"no volume with the label {device.name} is attached")
        time.sleep(1)
    MOUNTED.mkdir(mode=0o700, exist_ok=True)
    if not MOUNTED.is_mount():
        command("mount", "-o", "nosuid,nodev,noexec", device, MOUNTED)
    try:
        yield MOUNTED
    finally:
        command("umount", MOUNTED)


def read(folder: Path) -> dict[str, bytes]:
    """What is kept, by the names of its files, of those that this machine's key opens.

    Raises StepError where it opens none of them: they are another key's, and stay.
    """
    found, problems = {}, []
    for path in (folder / NAME, folder / BEFORE):
        if path.exists():
            try:
                found[path.name] = run("age", "-d", "-i", KEY, path)
            except StepError as problem:
                problems.append(f"{path.name}: {problem}")
    if problems and not found:
        said = "; ".join(problems)
        raise StepError(f"{KEY} cannot decrypt the kept certificates, so none is changed or kept: {said}")
    for problem in problems:
        print(f"<4>{problem}", flush=True)
    return found


def pack() -> bytes:
    """What is to be kept of this machine: certbot's accounts and certificates, and when orders were made."""
    parts = [name for name in (*PARTS, ACCOUNTS) if (certificate.CERTBOT / name).exists()]
    state = certificate.STATE
    orders = ["-C", state.parent, state.name] if state.exists() else []
    if not parts + orders:
        return b""
    # The same every time, where nothing has changed.
    alike = ("--sort=name", "--mtime=@0", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner")
    return run("tar", *alike, "-C", certificate.CERTBOT if parts else "/", "-c", *parts, *orders)


def put_back(kept: bytes) -> None:
    """Make what is kept this machine's: unpacked beside, then moved, so that a power cut leaves it to the next boot."""
    beside = certificate.CERTBOT / ".kept"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700, parents=True)
    run("tar", "-C", beside, "-xp", given=kept)
    os.sync()
    orders = beside / certificate.STATE.name
    # What this machine has ordered itself is newer.
    if orders.exists() and not certificate.STATE.exists():
        write(certificate.STATE, orders.read_text())
    # An account that was registered meanwhile stays.
    if (beside / ACCOUNTS).exists():
        shutil.copytree(beside / ACCOUNTS, certificate.CERTBOT / ACCOUNTS, symlinks=True, dirs_exist_ok=True)
    for name in reversed(PARTS):
        if (beside / name).exists():
            shutil.rmtree(certificate.CERTBOT / name, ignore_errors=True)
            (beside / name).rename(certificate.CERTBOT / name)
    os.sync()
    shutil.rmtree(beside)


def missed(kept: bytes) -> bool:
    """Whether something is kept that this machine has not: a certificate, or an account where it has none."""
    listed = run("tar", "-t", given=kept).decode()
    return ("renewal/" in listed and ".conf\n" in listed) or not (certificate.CERTBOT / ACCOUNTS).exists()


def save(folder: Path, ours: bytes, *, rotate: bool) -> None:
    """Keep something instead of what is kept, whole or not at all; what was kept stays as the one before."""
    partial = folder / f".{NAME}.partial"
    partial.unlink(missing_ok=True)
    # Not through a link that somebody else has put there meanwhile.
    partial.touch(0o600, exist_ok=False)
    partial.write_bytes(run("age", "-e", "-i", KEY, given=ours))
    os.sync()
    if rotate:
        (folder / NAME).replace(folder / BEFORE)
    partial.replace(folder / NAME)
    os.sync()


def main() -> None:
    """Get back what this machine has not, and keep what it has."""
    recipe = json.loads(certificate.RECIPE.read_text())
    where = recipe.get("keep")
    if CHECKED.exists() or not where:
        return
    if not KEY.exists() and (Path(__file__).parent / "aws.py").exists():
        importlib.import_module("aws").fetch(recipe, SHORT, keys_alone=True)
    if not KEY.exists():
        print(f"<4>certificates are not kept: {KEY} is missing", flush=True)
        return
    if RESTORE in sys.argv and has():
        return
    # Root's alone: whoever can open it can hold it.
    certificate.LOCK.touch(0o600)
    with certificate.LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("an order is running; this runs again after it", flush=True)
            return
        # An order may have ended just before.
        had = has()
        with place(where) as folder:
            kept = read(folder)
            known = next(iter(kept.values()), b"")
            if known and not had and missed(known):
                put_back(known)
                if has():
                    print(f"restored a certificate from {where}", flush=True)
            if RESTORE not in sys.argv and (ours := pack()) not in (b"", known):
                save(folder, ours, rotate=NAME in kept)
                print(f"kept in {where}", flush=True)
    # It waits for whoever holds the lock.
    if RESTORE not in sys.argv and has() and not had:
        command(certificate.HOOK)


if __name__ == "__main__":
    os.umask(0o022)
    try:
        main()
    except (StepError, subprocess.SubprocessError, OSError, ValueError) as problem:
        print(f"<3>app-keep failed: {problem}", flush=True)
        sys.exit(1)
