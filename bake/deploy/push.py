"""Upload a new release to a running machine, switch to it and report the result.

app-setup on the machine does the switch, so a lost connection leaves the machine in a consistent state.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bake.bundle import release_archive
from bake.bundle.debian_choice import REFUSALS
from bake.config.debian import TARGETS
from bake.config.recipe import Recipe
from bake.diagnosis.diagnosis import setup_error
from bake.document import release_source
from bake.errors import BootError, CheckError, SetupError
from bake.host import cache
from bake.host.progress import Reporter
from bake.verify import pages
from bake.verify.report import table
from bake.vm.ssh import Login

#: Prints one line each: the source stanza, the current release, the previous release, all releases on the machine.
FACTS = """
tr -d '\\n' < /etc/app/source.json && echo &&
basename "$(readlink /srv/app/current)" && basename "$(readlink /srv/app/previous)"; echo $(ls /srv/app/releases)
"""
#: Requests a release and prints app-setup's journal. The lock allows one push at a time; a run in progress ends first.
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
#: Prints one line each: the names of the site, the recipe of its release, that release's digest. Then prints the record
#: of the author's server. Fails if the release has no crawler.
SITE = """
cd /srv/app/current && test -e settings/crawl.py || exit 1
echo $(cat /run/app/names)
tr -d '\\n' < recipe.json && echo
basename "$(readlink -f .)"
cat /var/lib/app-author.json 2> /dev/null || true
"""
CRAWL = pages.AS_NOBODY + " python3 /srv/app/current/settings/crawl.py {argument}\n"
JOURNAL = "journalctl -q -b -o cat -n 2000 -u app.service"


@dataclass(frozen=True)
class Facts:
    """The state of a machine: its source stanza, and the digests of its current, previous and other releases."""

    stanza: dict[str, str]
    current: str
    previous: str
    releases: frozenset[str]


def facts(login: Login) -> Facts:
    """Read the state of a machine. Raises BootError if the login fails, SetupError if it runs no release of bake."""
    login.require()
    lines = login.script(FACTS).stdout.splitlines()
    try:
        stanza, current, previous, releases = lines
        return Facts(json.loads(stanza), current, previous, frozenset(releases.split()))
    except ValueError:
        raise SetupError(
            f"{login.host} does not run a release that bake made",
            "Push to a machine that was booted from an image of bake, or set up by a document of `bake render`.",
            "\n".join(lines),
        ) from None


def push(login: Login, folder: Path, read: Callable[[str], Recipe], report: Reporter) -> str:
    """Push an app's folder to a machine and return the digest of the release that the machine now runs.

    `read` returns the folder's recipe for a Debian release by its name. It gets the machine's release, which may
    differ from the one in bake.yaml.
    """
    there = facts(login)
    release, kind = there.stanza.get("release", ""), there.stanza.get("machine", "")
    goal = TARGETS.get(release)
    if goal is None or release_source.MACHINES[goal.arch] != kind:
        raise SetupError(
            f"{login.host} runs {release or 'an unknown system'} on {kind or 'an unknown architecture'}, which this "
            "version of bake does not support",
            f"It supports {' and '.join(TARGETS)} on x86_64.",
        )
    if there.stanza.get("layout") != release_source.LAYOUT:
        raise SetupError(
            f"{login.host} was made by another version of bake, with a different layout of releases",
            "Push with that version of bake. Or make a new machine with this version: from an image or a document.",
        )
    with cache.work_folder() as work:
        try:
            wanted = read(goal.name)
            parcel = release_archive.collect(
                release_source.folder_of(folder, wanted), wanted, work / "bundle.tar", report
            )
        except REFUSALS as error:
            error.hint += (
                f" {login.host} runs {goal.name} with Python {goal.python_version}. For another Debian release, make a "
                "new machine."
            )
            raise
        if parcel.sha256 not in there.releases:
            with report.phase("upload") as phase:
                what = f"{parcel.size / 1e6:.1f} MB"
                login.upload(
                    parcel.path,
                    f"{release_source.INCOMING}/{parcel.sha256}.tar",
                    lambda share: phase.progress(share, what),
                )
        return _switch(login, there, parcel.sha256, report)


def back(login: Login, report: Reporter) -> str:
    """Roll back to the previous release and return its digest."""
    there = facts(login)
    if there.previous not in there.releases:
        raise SetupError(
            f"{login.host} has no previous release to roll back to", "Push the version that you want: `bake push`."
        )
    return _switch(login, there, there.previous, report)


def visit(login: Login, report: Reporter) -> None:
    """Request the pages of the current release as a visitor does, and print a summary of the answers.

    Raises CheckError if a page fails. Releases by older versions of bake have no crawler, so they are skipped.
    """
    found = login.script(SITE)
    if found.status:
        return
    names, recipe, release, *record = found.stdout.split("\n", 3)

    def ask(argument: dict[str, object]) -> str:
        return login.script(CRAWL.format(argument=shlex.quote(json.dumps(argument)))).stdout

    with report.phase("pages"):
        login.script(pages.AWAIT_WORKERS)
        check = json.loads(recipe).get("check", {})
        site, author = pages.Site.of(names, check), pages.Author.read("".join(record), release, check)
        judged = pages.judge(ask, site, author, lambda: login.script(JOURNAL).stdout)
    report.note(f"app: {judged.summary}")
    if judged.faults:
        failing = dict.fromkeys(fault.address for fault in judged.faults)
        raise CheckError(
            f"The release is live, but {len(failing)} of its pages fail: {', '.join(list(failing)[:5])}",
            "`bake push HOST --back` rolls back to the previous release.",
            table(judged.differences),
        )


def _switch(login: Login, there: Facts, digest: str, report: Reporter) -> str:
    """Switch a machine to a release that it has, or whose bundle it has. Raises the error that app-setup reported."""
    machine = {key: there.stanza[key] for key in ("release", "machine", "layout") if key in there.stanza}
    with report.phase("switch"):
        done = login.script(SWITCH.format(stanza=json.dumps({**machine, "bundle": digest}, indent=2)))
    after = facts(login)
    if done.status == 0 and after.current == digest:
        same = there.current == digest
        report.note(
            f"release {digest[:12]} is live"
            + (" as before" if same else f"; `--back` rolls back to {there.current[:12]}")
        )
        return digest
    told = done.stdout.partition("\n--- the app's journal")[0]
    reason = told.partition("app-setup failed: ")[2].strip().partition("\nwent back")[0]
    if not reason:
        raise BootError(
            f"The connection to {login.host} was lost during the switch", "Run the same command again.", done.stderr
        )
    report.note(f"release {digest[:12]} is not healthy; {login.host} runs {after.current[:12]}")
    raise setup_error(reason, done.stdout.strip())
