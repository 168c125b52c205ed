"""A new release onto a machine that runs: uploaded, switched to, and what came of it.

The machine does the switching (app-setup), so that a lost connection leaves it whole.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bake import bundle, comparison, pages, source, store
from bake.debian import REFUSALS
from bake.diagnosis import of_setup
from bake.errors import BootError, CheckError, SetupError
from bake.login import Login
from bake.progress import Reporter
from bake.recipe import Recipe
from bake.target import TARGETS

#: What a machine says of itself, a line each: its source stanza, the release it serves, the one before, all it has.
FACTS = """
tr -d '\\n' < /etc/app/source.json && echo &&
basename "$(readlink /srv/app/current)" && basename "$(readlink /srv/app/previous)"; echo $(ls /srv/app/releases)
"""
#: Asks for a release, one push at a time and after a run that is under way, and tells what app-setup said of it.
SWITCH = """
exec 9> /run/app/push.lock && flock 9
while [ "$(systemctl show --value --property ActiveState app-setup.service)" = activating ]; do sleep 1; done
cat > /etc/app/source.json.partial << 'END'
{stanza}
END
chmod 644 /etc/app/source.json.partial && mv /etc/app/source.json.partial /etc/app/source.json
begun=$(date +%s)
systemctl start app-setup.service 2> /dev/null
status=$?
journalctl --sync
run=$(systemctl show --value --property InvocationID app-setup.service)
# A journal that is just being extended can be read a moment later.
told() {{
    for try in 1 2 3; do
        said=$(journalctl -q -o cat "$@")
        [ -z "$said" ] || break
        sleep 1
    done
    printf '%s\\n' "$said"
}}
told _SYSTEMD_INVOCATION_ID="$run"
[ $status = 0 ] || echo "--- the app's journal"
[ $status = 0 ] || told -n 2000 --since "@$begun" -u app-next.service -u app.service -u 'app-job@*'
exit $status
"""
#: Prints the names of the site, the recipe of its release and that release's digest, a line each, and then the record
#: of the author's server. Fails where the release brings no crawler.
SITE = """
cd /srv/app/current && test -e settings/crawl.py || exit 1
echo $(cat /run/app/names)
tr -d '\\n' < recipe.json && echo
basename "$(readlink -f .)"
cat /var/lib/app-author.json 2> /dev/null || true
"""
#: Asks for pages as a user that owns nothing.
CRAWL = """
setpriv --reuid=nobody --regid=nogroup --clear-groups python3 /srv/app/current/settings/crawl.py {argument}
"""
JOURNAL = "journalctl -q -b -o cat -n 2000 -u app.service"


@dataclass(frozen=True)
class Facts:
    """What a machine runs: its stanza, the digests of its releases: the current one, the one before, all."""

    stanza: dict[str, str]
    current: str
    previous: str
    releases: frozenset[str]


def facts(login: Login) -> Facts:
    """Ask a machine. Raises BootError where nobody can log in, SetupError where it is none of ours."""
    login.require()
    lines = login.script(FACTS).stdout.splitlines()
    try:
        stanza, current, previous, releases = lines
        return Facts(json.loads(stanza), current, previous, frozenset(releases.split()))
    except ValueError:
        raise SetupError(
            f"{login.host} serves no release of bake's",
            "Push to a machine that was booted from an image of bake's, or set up by its document.",
            "\n".join(lines),
        ) from None


def push(login: Login, folder: Path, read: Callable[[str], Recipe], report: Reporter) -> str:
    """Bring an app's folder onto a machine; the digest of the release that serves there now.

    `read` returns the folder's recipe for a Debian release by its name: that of the machine, whatever bake.yaml names.
    """
    there = facts(login)
    release, kind = there.stanza.get("release", ""), there.stanza.get("machine", "")
    goal = TARGETS.get(release)
    if goal is None or source.MACHINES[goal.arch] != kind:
        raise SetupError(f"{login.host} is {release} on {kind}, which this bake knows nothing of")
    if there.stanza.get("layout") != source.LAYOUT:
        raise SetupError(
            f"{login.host} was made by another version of bake, whose releases are laid out differently",
            "Bake an image with this one, or paste its document on a new machine; or push with that version.",
        )
    with store.work_folder() as work:
        try:
            wanted = read(goal.name)
            parcel = bundle.collect(source.folder_of(folder, wanted), wanted, goal, work / "bundle.tar", report)
        except REFUSALS as error:
            error.hint += (
                f" {login.host} runs {goal.name}, with Python {goal.python_version}, and keeps it: another Debian "
                "release needs a new machine."
            )
            raise
        if parcel.sha256 not in there.releases:
            with report.phase("upload") as phase:
                what = f"{parcel.size / 1e6:.1f} MB"
                login.upload(
                    parcel.path, f"{source.INCOMING}/{parcel.sha256}.tar", lambda share: phase.progress(share, what)
                )
        return _switch(login, there, parcel.sha256, report)


def back(login: Login, report: Reporter) -> str:
    """Return to the release before; its digest."""
    there = facts(login)
    if there.previous not in there.releases:
        raise SetupError(f"{login.host} has no release before the one it serves")
    return _switch(login, there, there.previous, report)


def visit(login: Login, report: Reporter) -> None:
    """Ask the release that serves now for its pages, as visitors do, and note how they answer.

    Raises CheckError where one fails. A release of an older bake brings no crawler, and is not asked.
    """
    found = login.script(SITE)
    if found.status:
        return
    names, recipe, release, *record = found.stdout.split("\n", 3)

    def ask(argument: dict[str, object]) -> str:
        return login.script(CRAWL.format(argument=shlex.quote(json.dumps(argument)))).stdout

    with report.phase("pages"):
        site = pages.Site.of(names, json.loads(recipe).get("check", {}))
        author = pages.Author.read("".join(record), release)
        judged = pages.judge(ask, site, author, lambda: login.script(JOURNAL).stdout)
    report.note(f"app: {judged.summary}")
    if judged.faults:
        failing = dict.fromkeys(fault.address for fault in judged.faults)
        raise CheckError(
            f"The release serves, but {len(failing)} of its pages fail: {', '.join(list(failing)[:5])}",
            "`bake push HOST --back` returns to the release before.",
            comparison.table(judged.differences),
        )


def _switch(login: Login, there: Facts, digest: str, report: Reporter) -> str:
    """Have a machine serve a release it has, or has the bundle of. Raises what app-setup's words mean."""
    machine = {key: there.stanza[key] for key in ("release", "machine", "layout") if key in there.stanza}
    with report.phase("switch"):
        done = login.script(SWITCH.format(stanza=json.dumps({**machine, "bundle": digest}, indent=2)))
    after = facts(login)
    if done.status == 0 and after.current == digest:
        same = there.current == digest
        report.note(
            f"release {digest[:12]} serves" + (" as before" if same else f"; {there.current[:12]} is kept: --back")
        )
        return digest
    told = done.stdout.partition("\n--- the app's journal")[0]
    reason = told.partition("app-setup failed: ")[2].strip().partition("\nwent back")[0]
    if not reason:
        raise BootError(f"The connection to {login.host} was lost", "Run the same command again.", done.stderr)
    report.note(f"release {digest[:12]} is not well; {login.host} serves {after.current[:12]}")
    raise of_setup(reason, done.stdout.strip())
