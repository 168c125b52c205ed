"""Provide writable folders, required secrets, Django's static files and the recipe's own steps.

Part of bundles, and of other releases whose recipe uses any of these. app-setup loads it.
"""

import json
import os
import re
import subprocess
from pathlib import Path, PurePosixPath

from step import FOLLOWED, StepError, Waiting, command, link, say, write

#: The app's data. Existing files in it are never replaced.
DATA = Path("/var/lib/app")
#: The paths that the app wrote during the bake: {"data": {path: whether it is a folder}, "fresh": [path]}.
OBSERVED = Path("/var/lib/app-observed.json")
#: Writable folders with shipped files. Each release has its own, which begin with its shipped files.
FRESH = Path("/var/cache/app/fresh")
#: The path of the static files' URL, written by the job `static`.
URL = Path("/var/cache/app/static-url")
#: Exists while bake makes, checks or runs an image.
CHECK = Path("/run/app-check")
#: The steps that a bake skips, a line each, for the person who bakes.
NOTES = Path("/run/app-check/notes")
#: The command for the end of a job's log; and the errors of database clients that cannot reach their server.
JOURNAL = ("journalctl", "--namespace=*", "-b", "-o", "cat", "-n", "40", "-u")
UNREACHABLE = re.compile(
    "could not (connect|translate host)|Connection refused|Can't connect|[Nn]ame or service not known|name resolution"
    "|Network is unreachable|No servers found|Operation not permitted"
)
#: Releases whose static files observe.py has collected in this run, because a bake prepares an app twice.
collected: set = set()
OWNER = {"user": "app", "group": "app", "extra_groups": []}
#: Files that may contain secrets. app-configure writes the last one from /etc/app.
GIVEN = Path("/run/app-check/env"), Path("/run/app/secrets.env"), Path("/run/app/given.env")
#: The command for secrets in the PATH, a link to the program in the release.
SECRET, PROGRAM = Path("/usr/local/sbin/app-secret"), Path("/srv/app/current/settings/secret")


def keep(release: Path, recipe: dict) -> None:
    """Put the paths that the app writes into DATA or FRESH, and replace them in the source by links.

    A path that does not exist there yet gets the content that the release ships.
    """
    seen = json.loads(OBSERVED.read_text()) if OBSERVED.exists() else {"data": {}, "fresh": []}
    # A name that bake.yaml lists is a folder if it looks like one.
    writable = recipe.get("writable") or []
    folders = {name: "." not in PurePosixPath(name).name[1:] for name in writable} | seen["data"]
    # Paths inside of a folder come before the folder, whose copy then contains their links.
    for name in sorted({*folders, *seen["fresh"]}, key=lambda name: -len(PurePosixPath(name).parts)):
        path, keeps = PurePosixPath(name), name in folders
        # Another one of `writable` contains it.
        if not {*writable}.isdisjoint(map(str, path.parents)):
            continue
        place, shipped = release / "source" / name, release / "given" / name.replace("/", "%")
        kept = DATA / name if keeps else FRESH / release.name / name
        # Behind a link is the app's own folder, where links of the app would lead root to other places.
        if not any((release / "source" / each).is_symlink() for each in (path, *path.parents)):
            # A later release may ship code where an earlier one wrote.
            if name not in writable and any(file.suffix == ".py" for file in (place, *place.rglob("*"))):
                continue
            shipped.parent.mkdir(parents=True, exist_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                place.rename(shipped)
            place.symlink_to(kept)
            # nginx follows a link only if its target has the same owner.
            os.lchown(place, DATA.stat().st_uid, -1)
        # Run as the app, because it may have put links to other places into its own folder. nginx reads FRESH, but
        # only the app reads DATA.
        argv = ["sh", "-euc", KEEP, "sh", shipped, kept, "mkdir" if folders.get(name) else "true"]
        subprocess.run(argv, check=True, umask=0o027 if keeps else 0o022, **OWNER)  # type: ignore[call-overload]
    gone = [folder for folder in FRESH.glob("*") if not (release.parent / folder.name).exists()]
    if gone:
        # The app may have made more folders than one command takes.
        names = b"\0".join(map(os.fsencode, gone))
        subprocess.run(["xargs", "-0", "rm", "-rf", "--"], input=names, check=True, **OWNER)  # type: ignore[call-overload]


#: Copies $1 to $2 atomically if $2 does not exist. If $1 does not exist either, runs the command $3 with $2.
KEEP = """
[ ! -e "$2" ] || exit 0
mkdir -p "$(dirname "$2")"
new="$(dirname "$2")/.$(basename "$2").new"
rm -rf "$new"
if [ -e "$1" ]; then
    cp -rP --no-preserve=mode "$1" "$new"
    mv -T "$new" "$2"
else
    "$3" "$2"
fi
"""


def require_secrets(recipe: dict) -> None:
    """Raise Waiting if a secret of the recipe has no value."""
    names = recipe.get("secrets") or []
    if names:
        link(SECRET, PROGRAM)
    text = "\n".join(path.read_text() for path in GIVEN if path.exists())
    missing = [name for name in names if not re.search(rf'^{name}[ \t]*=(?!["\']*[ \t]*$)', text, re.MULTILINE)]
    if missing:
        secrets = ", ".join(missing)
        raise Waiting(f"missing secrets: {secrets}. For each: {SECRET} NAME")


def prepare(release: Path, recipe: dict, changed: bool, stale: bool) -> None:
    """Run the steps before a release serves.

    `changed`: it was not the current release. `stale`: the app is about to be started or restarted.
    """
    if stale:
        run("release", release, recipe)
    if changed:
        collect(release, recipe)
    if stale:
        run("setup", release, recipe)


def collect(release: Path, recipe: dict) -> None:
    """Collect Django's static files, and make nginx serve them at STATIC_URL."""
    if not isinstance(recipe.get("django"), dict) or release in collected:
        return
    command("systemctl", "start", "app-job@static.service")
    # The app wrote this file, so root must not follow a link or block on a pipe.
    file = os.open(URL, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    url = recipe["django"].get("static_url") or os.read(file, 200).decode(errors="replace")
    os.close(file)
    location, served = "", recipe.get("static") or {}
    if re.fullmatch(r"(/\w[\w.~-]*)+", url, re.ASCII) and url not in served:
        location = (release / "settings/static-location").read_text().replace("STATIC_URL", url)
    place = release / "settings/nginx/collected.conf"
    if location != (place.read_text() if place.exists() else ""):
        write(place, location)
        command("systemctl", "reload-or-restart", "nginx.service")


def run(job: str, release: Path, recipe: dict) -> None:
    """Run the recipe's `release` or `setup`. Raises StepError if it fails.

    After a rollback it may fail, because the newer release's steps have changed the data. The health check then decides
    whether the old release still works.
    """
    if not recipe.get(job):
        return
    if job == "release" and CHECK.exists():
        # During a bake or a check, the step must not change a database outside of the machine.
        close("app-job@release.service")
    if subprocess.run(["systemctl", "restart", f"app-job@{job}.service"]).returncode:
        if CHECK.exists() and UNREACHABLE.search(command(*JOURNAL, f"app-job@{job}")):
            note = f"{job} is not tried here: it needs a server that a bake cannot reach"
            skip(f"app-job@{job}.service", note)
            return
        problem = f"a step of bake.yaml's `{job}` failed: see `journalctl --namespace=* -u app-job@{job}`"
        if not (release / FOLLOWED).exists():
            raise StepError(problem)
        say(f"<4>{problem}; starting this release anyway, because a newer one has run here")


def close(unit: str) -> None:
    """Let a unit reach only this machine."""
    command("systemctl", "set-property", "--runtime", unit, "IPAddressDeny=any", "IPAddressAllow=localhost")


def skip(unit: str, note: str) -> None:
    """Note that a bake does not try a unit, and stop the unit: a failed one would be a fault of the machine."""
    say(f"<4>{note}")
    with NOTES.open("a") as stream:
        stream.write(f"{note}\n")
    for verb in ("stop", "reset-failed"):
        subprocess.run(["systemctl", verb, unit], stderr=subprocess.DEVNULL)
