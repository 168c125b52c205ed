"""What an app asks for besides being served: folders it writes to, secrets, steps of its own.

app-setup has it of releases whose apps ask for any of it.
"""

import json
import os
import re
import subprocess
from pathlib import Path, PurePosixPath

from step import FOLLOWED, StepError, Waiting, command, link, say, write

#: The app's data; nothing in it is ever replaced.
DATA = Path("/var/lib/app")
#: What the app was seen to write while its image was made: {"data": {path: is it a folder}, "fresh": [path]}.
OBSERVED = Path("/var/lib/app-observed.json")
#: Folders with files of a release that the app writes to: each release has its own, which begin as it ships them.
FRESH = Path("/var/cache/app/fresh")
#: Where the app's job `static` leaves the path of its static files' URL.
URL = Path("/var/cache/app/static-url")
#: There while an image is made, checked or tried.
CHECK = Path("/run/app-check")
#: The end of a job's log; and what clients of databases say of a server that they cannot reach.
JOURNAL = ("journalctl", "-b", "-o", "cat", "-n", "40", "-u")
UNREACHABLE = re.compile(
    "could not (connect|translate host)|Connection refused|Can't connect|[Nn]ame or service not known|name resolution"
    "|Network is unreachable|No servers found|Operation not permitted"
)
#: Releases whose static files observe.py has collected in this run: while an image is made, an app is prepared twice.
collected: set = set()
OWNER = {"user": "app", "group": "app", "extra_groups": []}
#: Where secrets may be given; the last is what app-configure reads in /etc/app.
GIVEN = tuple(Path(name) for name in ("/run/app-check/env", "/run/app/secrets.env", "/run/app/given.env"))
#: Where people find the program for secrets, and the release's own.
SECRET, PROGRAM = Path("/usr/local/sbin/app-secret"), Path("/srv/app/current/settings/secret")


def keep(release: Path, recipe: dict) -> None:
    """Put what the app writes into DATA or FRESH, and links to it in the place where the app looks for it.

    What the release ships there is the content for a machine that has none yet.
    """
    seen = json.loads(OBSERVED.read_text()) if OBSERVED.exists() else {"data": {}, "fresh": []}
    # A name that bake.yaml lists is a folder if it looks like one.
    folders = {name: "." not in PurePosixPath(name).name[1:] for name in recipe.get("writable") or []} | seen["data"]
    # What lies in a folder comes before the folder, whose copy has the link.
    for name in sorted({*folders, *seen["fresh"]}, key=lambda name: -len(PurePosixPath(name).parts)):
        keeps = name in folders
        place, given = release / "source" / name, release / "given" / name
        kept = DATA / name if keeps else FRESH / release.name / name
        # A later release may ship code where an earlier one wrote.
        if name not in (recipe.get("writable") or []) and any(
            file.suffix == ".py" for file in (place, *place.rglob("*"))
        ):
            continue
        if not place.is_symlink():
            given.parent.mkdir(parents=True, exist_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                place.rename(given)
            place.symlink_to(kept)
        # As the app: in a folder of its own it may put links in our way.
        # nginx serves what is fresh; data is the app's alone.
        argv = ["sh", "-euc", KEEP, "sh", given, kept, "mkdir" if folders.get(name) else "true"]
        subprocess.run(argv, check=True, umask=0o027 if keeps else 0o022, **OWNER)
    gone = [folder for folder in FRESH.glob("*") if not (release.parent / folder.name).exists()]
    if gone:
        subprocess.run(["rm", "-rf", "--", *gone], check=True, **OWNER)


#: Copies $1 to $2, whole or not at all, where nothing is yet; without a $1, does $3 to $2.
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
    """Stop where a secret is missing that the app asks for."""
    names = recipe.get("secrets") or []
    if names:
        link(SECRET, PROGRAM)
    given = "\n".join(path.read_text() for path in GIVEN if path.exists())
    missing = [name for name in names if not re.search(rf'^{name}[ \t]*=(?!["\']*[ \t]*$)', given, re.MULTILINE)]
    if missing:
        said = ", ".join(missing)
        raise Waiting(f"missing secrets: {said}. For each: {SECRET} NAME")


def prepare(release: Path, recipe: dict, changed: bool, stale: bool) -> None:
    """Prepare a release to serve: `changed` says that it is another one, `stale` that the app is to be started."""
    if stale:
        run("release", release, recipe)
    if changed:
        collect(release, recipe)
    if stale:
        run("setup", release, recipe)


def collect(release: Path, recipe: dict) -> None:
    """Have Django collect its static files, and nginx serve them where Django says that they are."""
    if not isinstance(recipe.get("django"), dict) or release in collected:
        return
    command("systemctl", "start", "app-job@static.service")
    # The app wrote it: neither a link nor a pipe may lead root astray.
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
    """Run the recipe's `release` or `setup`.

    Those of a release that another one followed may fail: the newer one's steps have changed its data, and
    whether it can live with that, its health tells.
    """
    if not recipe.get(job):
        return
    if job == "release" and CHECK.exists():
        # An image is being made or checked: it changes no database but its own.
        closed = ("IPAddressDeny=any", "IPAddressAllow=localhost")
        command("systemctl", "set-property", "--runtime", "app-job@release.service", *closed)
    if subprocess.run(["systemctl", "restart", f"app-job@{job}.service"]).returncode:
        if CHECK.exists() and UNREACHABLE.search(command(*JOURNAL, f"app-job@{job}")):
            say(f"<4>{job} is not tried here: it needs a server that a bake cannot reach")
            return
        problem = f"a step of bake.yaml's `{job}` failed: see `journalctl -u app-job@{job}`"
        if not (release / FOLLOWED).exists():
            raise StepError(problem)
        say(f"<4>{problem}; starting this release anyway, because a newer one has run here")
