#!/usr/bin/python3 -B
"""Replace the machine's own files with another set, whole or not at all.

`bake upgrade` sends this program together with the set, so a machine of any age has it. Usage:

    renew.py describe ROOT PATHS    print the state of the machine as JSON
    renew.py install ROOT FOLDER    install the set in FOLDER
    renew.py heal ROOT              put the earlier set back, if an installation did not end
    renew.py boot ROOT              the same early in a boot, before the units of the set start

`install` keeps a copy of the earlier set, and marks the upgrade as pending. Only a machine that is healthy with the new
set loses that mark. If `install` fails or is killed, the mark remains, and `heal` puts the copy back: systemd runs it
when `install` ends, and `boot` after a power cut. Each step can be repeated.
Python's standard library only.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

# All paths are relative to the root.
#: The folder of the earlier set, named by its digest, and of the files below.
HOME = Path("var/lib/app-machine")
#: The set that the last upgrade installed: its version, and its files as `rows` returns them.
RECORD = HOME / "set.json"
#: A link to the folder of the earlier set, while an upgrade is not finished.
PENDING = HOME / "pending"
#: This program, for the unit that runs `boot`: RESTORE.
PROGRAM = HOME / "renew.py"
#: Each file below this folder belongs to the set.
PROGRAMS = Path("usr/lib/app")
#: The end of the names of new files, until they replace the old ones.
NEW = ".new"
#: Exists during an upgrade, and not after a reboot.
RUNNING = Path("run/app-upgrade")
UNITS = Path("etc/systemd/system")
RESTORE, WANTED = UNITS / "app-restore.service", UNITS / "sysinit.target.wants/app-restore.service"

SOURCE = Path("etc/app/source.json")
RELEASES, CURRENT, PREVIOUS = Path("srv/app/releases"), Path("srv/app/current"), Path("srv/app/previous")
TRIED = Path("srv/app/tried-after")
#: Without this file, app-setup exchanges the app's workers.
SERVED = Path("run/app/served")
#: If it contains 1, the kernel accepts the packets of a connection of which it has not seen all earlier ones.
LIBERAL = Path("proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")

#: The result of app-setup's last run.
RESULT = Path("run/app/result.json")
#: The text before a result in the output of install_release.py and health.py.
RESULT_PREFIX = "app-setup result: "


class Failed(Exception):
    """A step failed. The message is the reason."""


class SetupFailed(Failed):
    """app-setup or the health check failed. `result` is its result as JSON, which bake reads."""

    def __init__(self, result: str) -> None:
        super().__init__("app-setup failed: " + json.loads(result)["message"])
        self.result = result


def beside(name: str) -> Path:
    """Return the path of a file that came with this program."""
    return Path(__file__).with_name(name)


def say(priority: str = "", **event: object) -> None:
    """Print an event as JSON, which bake reads from the journal."""
    print(f"{priority}app-upgrade {json.dumps(event)}", flush=True)


def run(*argv: object) -> None:
    """Run a program. Raises Failed with the end of its output."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        before, known, result = done.stdout.strip().partition(RESULT_PREFIX)
        if known:
            raise SetupFailed(result)
        raise Failed(f"`{' '.join(words[:3])}` failed with {done.returncode}: {before[-2000:]}")


def write(path: Path, text: str) -> None:
    """Write a file atomically. `sync` makes it durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}{NEW}")
    new.write_text(text)
    new.rename(path)


def link(place: Path, target: object) -> None:
    """Make `place` a symbolic link to `target`, atomically."""
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".{place.name}{NEW}")
    new.unlink(missing_ok=True)
    new.symlink_to(str(target))
    new.rename(place)


def text_of(path: Path) -> str | None:
    """Return the text of a file, or None if it does not exist."""
    return path.read_text() if path.exists() else None


def target_of(place: Path) -> str | None:
    """Return the target of a symbolic link, or None if there is no link."""
    return str(place.readlink()) if place.is_symlink() else None


def rows(root: Path, paths: list[str]) -> dict[str, str]:
    """Return the mode and the digest of each file of a set, by its path on the machine.

    `paths` are those outside of PROGRAMS that may belong to a set.
    """
    inside = (file for file in (root / PROGRAMS).rglob("*") if not file.name.endswith(NEW))
    names = {f"/{file.relative_to(root)}" for file in inside if "__pycache__" not in file.parts} | {*paths}
    files = ((name, root / name[1:]) for name in sorted(names))
    return {
        name: f"{file.stat().st_mode & 0o777:o} {hashlib.sha256(file.read_bytes()).hexdigest()}"
        for name, file in files
        if file.is_file()
    }


def digest(files: dict[str, str]) -> str:
    """Return the digest of a set: of the paths, modes and contents of its files."""
    return hashlib.sha256("".join(f"{row} {name}\n" for name, row in sorted(files.items())).encode()).hexdigest()


def describe(root: Path, paths: list[str]) -> dict:
    """Return the state of the machine: its set, and the files changed since the last upgrade."""
    files, record = rows(root, paths), json.loads(text_of(root / RECORD) or "{}")
    return {
        "digest": digest(files),
        "version": record.get("version", ""),
        "changed": changes(record["files"], files) if record else [],
        "pending": (root / PENDING).is_symlink(),
    }


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the paths of files that were changed, added or removed."""
    return sorted({name for name, _ in {*before.items()} ^ {*after.items()}})


def keep(root: Path, paths: list[str]) -> Path:
    """Copy the machine's set, and all that an upgrade changes besides it. Return the copy's folder."""
    files = rows(root, paths)
    folder = root / HOME / digest(files)[:12]
    if folder.exists():
        shutil.rmtree(folder)
    for name in files:
        place = folder / "files" / name[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name[1:], place)
    state = {
        "files": files,
        "paths": paths,
        "record": text_of(root / RECORD),
        "source": text_of(root / SOURCE),
        "previous": target_of(root / PREVIOUS),
    }
    write(folder / "set.json", json.dumps(state, indent=1))
    return folder


def replace(root: Path, folder: Path, files: dict[str, str], paths: list[str]) -> None:
    """Make the machine's set the one in a folder: write all files beside the old ones, rename them, remove the rest."""
    for name, row in files.items():
        new = new_file(root, name)
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name[1:], new)
        new.chmod(int(row.split()[0], 8))
    run("sync")
    for name in files:
        new_file(root, name).rename(root / name[1:])
    for name in rows(root, paths):
        if name not in files:
            (root / name[1:]).unlink()
            with contextlib.suppress(OSError):
                (root / name[1:]).parent.rmdir()
    run("sync")


def new_file(root: Path, name: str) -> Path:
    """Return the path of a new file until it replaces the old one. No program reads a file of such a name."""
    place = root / name[1:]
    return place.with_name(f".{place.name}{NEW}")


def arm(root: Path, kept: Path) -> None:
    """Mark the upgrade as pending, so that `heal` puts the kept set back unless `disarm` runs."""
    (root / RUNNING).touch()
    write(root / PROGRAM, Path(__file__).read_text())
    write(root / RESTORE, beside(RESTORE.name).read_text())
    link(root / WANTED, f"/{RESTORE}")
    run("sync")
    link(root / PENDING, kept.name)
    run("sync")


def disarm(root: Path) -> None:
    """Remove the mark, after the last step. It must not come back by a power cut."""
    run("sync")
    for path in (PENDING, WANTED, RESTORE, RUNNING):
        (root / path).unlink(missing_ok=True)
    run("sync")


def reload(root: Path) -> None:
    """Make the accounts and folders of the set, and make systemd, the firewall and sshd read their files again."""
    run("systemd-sysusers")
    run("systemd-tmpfiles", "--create", "app.conf")
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "--quiet", "app-configure.service", "app-setup.service")
    # Only older rules track the connections to sshd and nginx. When they are put back, the kernel has not seen the
    # packets in between, and they would drop all further ones: logins and visitors would wait for nothing.
    with contextlib.suppress(OSError):
        (root / LIBERAL).write_text("1")
    run("systemctl", "try-reload-or-restart", "nftables.service", "ssh.service")
    # nginx logs to it. Without it, an nginx that was started by an older set would log nothing until its restart.
    run("systemctl", "start", "systemd-journald@nginx.socket")


def choose(root: Path) -> None:
    """Make the next run of app-setup exchange the app's workers, and not go back to another release.

    A link TRIED to the release does that. The programs of one set may not run a release for another set.
    """
    source = json.loads((root / SOURCE).read_text())
    release = root / RELEASES / (source.get("bundle") or source["parts"])
    (root / TRIED).unlink(missing_ok=True)
    if target_of(root / CURRENT) != str(release):
        link(root / TRIED, release)
    (root / SERVED).unlink(missing_ok=True)


def serve(root: Path) -> None:
    """Make app-setup serve the release of source.json, then reload nginx, and check the health. Raises Failed."""
    (root / RESULT).unlink(missing_ok=True)
    try:
        run("systemctl", "start", "app-setup.service")
    except Failed:
        # The programs of an older bake, which `heal` puts back, write no result.
        result = text_of(root / RESULT)
        raise (SetupFailed(result) if result else Failed("app-setup failed: see `journalctl -u app-setup`")) from None
    # nginx's unit tests the configuration before it reloads.
    run("systemctl", "reload-or-restart", "nginx.service")
    run("python3", "-B", beside("health.py"), root / PROGRAMS, root / CURRENT / "recipe.json")


def install(root: Path, folder: Path) -> None:
    """Install the set in a folder, and its release if it has one. Raises Failed and OSError; then `heal` must run."""
    heal(root)
    new = json.loads((folder / "set.json").read_text())
    files, paths, stanza = new["files"], new["paths"], text_of(folder / "source.json")
    came = {f"/{path.relative_to(folder / 'files')}": path for path in (folder / "files").rglob("*") if path.is_file()}
    if {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in came.items()} != {
        name: row.split()[1] for name, row in files.items()
    }:
        raise Failed("the set is damaged")
    for name in describe(root, paths)["changed"]:
        say(changed=name)
    kept = keep(root, paths)
    arm(root, kept)
    replace(root, folder / "files", files, paths)
    reload(root)
    before = (root / SOURCE).read_text()
    run("python3", "-B", beside("install_release.py"), root / PROGRAMS, stanza or before)
    if stanza:
        write(root / SOURCE, stanza)
    choose(root)
    if (root / TRIED).is_symlink():
        # app-setup deletes all releases but the two.
        link(root / PREVIOUS, target_of(root / CURRENT))
    serve(root)
    if stanza and json.loads(stanza)["layout"] != json.loads(before).get("layout"):
        # The new programs do not run the earlier release.
        (root / PREVIOUS).unlink(missing_ok=True)
    write(root / RECORD, json.dumps({"version": new["version"], "files": files}, indent=1))
    disarm(root)
    for other in (root / HOME).iterdir():
        if other.is_dir() and other not in (kept, folder):
            shutil.rmtree(other, ignore_errors=True)
    say(kept=f"/{kept.relative_to(root)}")


def heal(root: Path, boot: bool = False) -> None:
    """Put back what a pending upgrade replaced. At boot, the units of the set start afterwards."""
    if not (root / PENDING).is_symlink():
        return
    if not boot:
        # If `install` was killed, app-setup may still run, with the new programs.
        with contextlib.suppress(Failed):
            run("systemctl", "stop", "app-setup.service")
    kept = root / HOME / (root / PENDING).readlink()
    state = json.loads((kept / "set.json").read_text())
    places = (*state["paths"], *(f"/{path}" for path in (SOURCE, PREVIOUS, TRIED)))
    for left in (*(new_file(root, name) for name in places), *(root / PROGRAMS).rglob(f".*{NEW}")):
        left.unlink(missing_ok=True)
    replace(root, kept / "files", state["files"], state["paths"])
    for path, text in ((SOURCE, state["source"]), (RECORD, state["record"])):
        if text is None:
            (root / path).unlink(missing_ok=True)
        else:
            write(root / path, text)
    if state["previous"] is None:
        (root / PREVIOUS).unlink(missing_ok=True)
    else:
        link(root / PREVIOUS, state["previous"])
    choose(root)
    problem = None
    try:
        if boot:
            run("systemctl", "daemon-reload")
        else:
            reload(root)
            serve(root)
    except Failed as error:
        problem = str(error)
    disarm(root)
    say(back=True, problem=problem)


def main(command: str, root: Path, *words: str) -> None:
    """Run a command. Raises Failed and OSError."""
    os.umask(0o022)
    if command == "describe":
        print(json.dumps(describe(root, json.loads(words[0]))))
    elif command == "install":
        install(root, Path(words[0]))
    else:
        heal(root, boot=command == "boot")


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    except (Failed, OSError) as problem:
        result = json.loads(problem.result) if isinstance(problem, SetupFailed) else None
        # systemd reads the priority <3>.
        say("<3>", failed=str(problem), result=result)
        sys.exit(1)
