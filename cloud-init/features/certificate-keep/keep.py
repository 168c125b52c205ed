"""Back up certbot's certificates, encrypted, to a folder, a volume or a bucket, and restore them on a new machine.

If the machine has no certificate, restore the backup. If the machine's certificates differ from the backup, replace it.
With the argument `restore`, only restore: app-configure uses it, before nginx reads a certificate.
Part of a release's settings; Python's standard library only.
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

# app-configure runs this program without PYTHONPATH.
sys.path.append("/usr/lib/app")

import certificate
from step import StepError, command, write

#: The key that encrypts and decrypts the backups: an identity of age, which only root can read.
KEY = Path("/etc/app/certificate.key")
#: Exists on a machine that is only checked.
CHECKED = Path("/run/app-check")
#: certbot's folders with the parts of a certificate, in the order of packing: links before their targets, because a
#: renewal at the same time only adds targets. The first folder makes a certificate valid, so it is restored last.
PARTS = ("renewal", "live", "archive")
ACCOUNTS = "accounts"
#: The backup, and the previous one.
NAME, BEFORE = "certificate.age", "certificate.age.before"
LABELS, MOUNTED = Path("/dev/disk/by-label"), Path("/run/app/keep")
#: Seconds after the boot in which an order waits for a volume. Some providers attach it when the machine already runs.
PATIENCE = 180
#: Seconds that a boot waits for the network. app-look retries later.
SHORT = 20
RESTORE = "restore"


def run(*argv: object, stdin: bytes = b"") -> bytes:
    """Run a program with the bytes `stdin`, and return its stdout.

    Raises StepError with the first line of its stderr, and TimeoutExpired after 120 s.
    """
    words = [str(word) for word in argv]
    done = subprocess.run(words, input=stdin, capture_output=True, timeout=120)
    if done.returncode:
        stderr = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise StepError(f"{words[0]} failed with {done.returncode}: {stderr}")
    return done.stdout


def has() -> bool:
    """Return whether certbot has a complete certificate on this machine."""
    return any(certificate.kept(path.stem).names for path in certificate.CERTBOT.glob("renewal/*.conf"))


@contextlib.contextmanager
def place(where: str) -> Iterator[Path]:
    """Yield the folder of the backups: a folder, a mounted volume, or a copy of a bucket's objects.

    Raises StepError if it is unavailable.
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
    """Return the decrypted backups by the names of their files.

    If the key cannot decrypt one of two, print a warning. Raises StepError if it cannot decrypt any; they belong to
    another key and stay unchanged.
    """
    backups, problems = {}, []
    for path in (folder / NAME, folder / BEFORE):
        if path.exists():
            try:
                backups[path.name] = run("age", "-d", "-i", KEY, path)
            except StepError as problem:
                problems.append(f"{path.name}: {problem}")
    if problems and not backups:
        listed = "; ".join(problems)
        raise StepError(f"{KEY} cannot decrypt the kept certificates, so none is changed or kept: {listed}")
    for reason in problems:
        print(f"<4>{reason}", flush=True)
    return backups


def pack() -> bytes:
    """Return an archive of certbot's accounts and certificates and the times of orders; empty if there are none."""
    parts = [name for name in (*PARTS, ACCOUNTS) if (certificate.CERTBOT / name).exists()]
    state = certificate.STATE
    orders = ["-C", state.parent, state.name] if state.exists() else []
    if not parts + orders:
        return b""
    # Make the archive reproducible, so that it changes only with its contents.
    alike = ("--sort=name", "--mtime=@0", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner")
    return run("tar", *alike, "-C", certificate.CERTBOT if parts else "/", "-c", *parts, *orders)


def put_back(kept: bytes) -> None:
    """Restore a backup. Unpack it in a folder and then rename it, so that the next boot repeats an interrupted one."""
    beside = certificate.CERTBOT / ".kept"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700, parents=True)
    run("tar", "-C", beside, "-xp", stdin=kept)
    os.sync()
    orders = beside / certificate.STATE.name
    # The times of this machine's own orders are newer.
    if orders.exists() and not certificate.STATE.exists():
        write(certificate.STATE, orders.read_text())
    # Keep an account that was registered in the meantime.
    if (beside / ACCOUNTS).exists():
        shutil.copytree(beside / ACCOUNTS, certificate.CERTBOT / ACCOUNTS, symlinks=True, dirs_exist_ok=True)
    for name in reversed(PARTS):
        if (beside / name).exists():
            shutil.rmtree(certificate.CERTBOT / name, ignore_errors=True)
            (beside / name).rename(certificate.CERTBOT / name)
    os.sync()
    shutil.rmtree(beside)


def missed(kept: bytes) -> bool:
    """Return whether a backup contains a certificate, or the machine has no account."""
    listed = run("tar", "-t", stdin=kept).decode()
    return ("renewal/" in listed and ".conf\n" in listed) or not (certificate.CERTBOT / ACCOUNTS).exists()


def save(folder: Path, ours: bytes, *, rotate: bool) -> None:
    """Write a backup atomically. With `rotate`, keep the current one as the previous one."""
    partial = folder / f".{NAME}.partial"
    partial.unlink(missing_ok=True)
    # Fail if another user has put a link there in the meantime.
    partial.touch(0o600, exist_ok=False)
    partial.write_bytes(run("age", "-e", "-i", KEY, stdin=ours))
    os.sync()
    if rotate:
        (folder / NAME).replace(folder / BEFORE)
    partial.replace(folder / NAME)
    os.sync()


def main() -> None:
    """Restore the backup if the machine has no certificate, and write a new backup if its certificates changed."""
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
    # Only root can open the file, because everyone who can open it can hold the lock.
    certificate.LOCK.touch(0o600)
    with certificate.LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("an order is running; this runs again after it", flush=True)
            return
        # Check again under the lock, because an order may have just finished.
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
    # The hook waits for the holder of the lock, so it runs after the lock is free.
    if RESTORE not in sys.argv and has() and not had:
        command(certificate.HOOK)


if __name__ == "__main__":
    os.umask(0o022)
    try:
        main()
    except (StepError, subprocess.SubprocessError, OSError, ValueError) as problem:
        print(f"<3>app-keep failed: {problem}", flush=True)
        sys.exit(1)
