"""Upload a new release to a running machine, switch to it and report the result.

app-setup on the machine does the switch, so a lost connection leaves the machine in a consistent state.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bake.bundle import release_archive
from bake.bundle.app_source import AppSource
from bake.bundle.debian_choice import REFUSALS
from bake.config import contract, contract_files
from bake.config.contract_files import Result
from bake.config.debian import TARGETS, Target
from bake.diagnosis.diagnosis import setup_error
from bake.errors import BootError, CheckError, SetupError
from bake.host import cache, remote_scripts
from bake.host.progress import Reporter
from bake.verify import pages
from bake.verify.report import table
from bake.vm.ssh import Login

#: Runs the crawler of the current release.
CRAWL = f"{pages.AS_NOBODY} python3 {contract.CURRENT}/settings/crawl.py {{argument}}\n"
#: Digests of releases. bake prints them, and writes them into the settings of the machine.
NAMES = re.compile(r"[A-Za-z0-9 _-]*")
#: The status of switch.sh if another push has changed the machine.
CHANGED = 75
#: The kind of app-setup's result if it was stopped.
STOPPED = "SystemExit"
JOURNAL = f"journalctl --namespace='*' -q -b -o cat -n 2000 -u {contract.SERVICE}.service"


@dataclass(frozen=True)
class Facts:
    """The state of a machine: its source, and the digests of its current, previous and other releases.

    `previous` is the release to go back to.

    `has_processes`: its own files can run the processes of a release. `has_python`: they can use an interpreter in it.
    """

    source: contract_files.Source
    current: str
    previous: str
    releases: frozenset[str]
    has_processes: bool = False
    has_python: bool = False


@dataclass(frozen=True)
class Source:
    """An app's folder.

    `read` returns the app for a Debian release by its name. It gets the machine's release, which may differ from the
    one in bake.yaml.
    """

    folder: Path
    read: Callable[[str], AppSource]


def facts(login: Login) -> Facts:
    """Read the state of a machine. Raises BootError if the login fails, SetupError if it runs no release of bake."""
    login.require()
    lines = login.script(remote_scripts.text("facts.sh")).stdout.splitlines()
    try:
        source, current, previous, releases, has_processes, has_python = lines
        if not NAMES.fullmatch(f"{current} {previous} {releases}"):
            raise ValueError("the name of a release")
        stanza = contract_files.Source.model_validate_json(source)
        can_run = (has_processes == "yes", has_python == "yes")
        return Facts(stanza, current, previous, frozenset(releases.split()), *can_run)
    except ValueError:
        raise SetupError(
            f"{login.host} does not run a release that bake made",
            "Push to a machine that was booted from an image of bake, or set up by a document of `bake render`.",
            "\n".join(lines),
        ) from None


def push(login: Login, source: Source, report: Reporter) -> str:
    """Push an app's folder to a machine and return the digest of the release that the machine now runs."""
    state = facts(login)
    target = target_of(login, state.source)
    key = ["-i", str(login.identity)] if login.identity else []
    command = shlex.join(["bake", "upgrade", *key, login.address.geturl(), str(source.folder)])
    hint = f"This command renews the machine's own files, and brings this release: {command}"
    if state.source.layout != contract.LAYOUT:
        raise SetupError(f"{login.host} was made by another version of bake, with a different layout of releases", hint)

    def read(debian: str) -> AppSource:
        app = source.read(debian)
        if app.recipe.processes and not state.has_processes:
            raise SetupError(f"{login.host} was made by a version of bake that runs no `processes`", hint)
        if app.recipe.target.has_interpreter and not state.has_python:
            raise SetupError(f"{login.host} was made by a version of bake that runs only Debian's own Python", hint)
        return app

    return _switch(login, state, upload_release(login, state, target, replace(source, read=read), report), report)


def target_of(login: Login, source: contract_files.Source) -> Target:
    """Return the Debian version of a machine. Raises SetupError if this version of bake does not support it."""
    release, machine = source.release, source.machine
    target = TARGETS.get(release)
    if target is None or contract.MACHINES[target.arch] != machine:
        raise SetupError(
            f"{login.host} runs {release or 'an unknown system'} on {machine or 'an unknown architecture'}, which this "
            "version of bake does not support",
            f"It supports {' and '.join(TARGETS)} on x86_64.",
        )
    return target


def upload_release(login: Login, state: Facts, target: Target, source: Source, report: Reporter) -> str:
    """Bundle an app's folder for a machine, upload the bundle unless the machine has it, and return its digest."""
    with cache.work_folder() as work:
        try:
            bundle = release_archive.collect(source.read(target.name), work / "bundle.tar", report)
        except REFUSALS as error:
            error.hint += (
                f" {login.host} runs {target.name} with Python {target.python_version}. "
                "For another Debian release, make a new machine."
            )
            raise
        if bundle.sha256 not in state.releases:
            with report.phase("upload") as phase:
                size_text = f"{bundle.size / 1e6:.1f} MB"
                login.upload(
                    bundle.path,
                    f"{contract.INCOMING}/{bundle.sha256}.tar",
                    lambda share: phase.progress(share, size_text),
                )
        return bundle.sha256


def roll_back(login: Login, report: Reporter) -> str:
    """Roll back to the previous release and return its digest."""
    state = facts(login)
    if state.previous not in state.releases - {state.current}:
        raise SetupError(
            f"{login.host} has no previous release to roll back to", "Push the version that you want: `bake push`."
        )
    return _switch(login, state, state.previous, report, (state.current, state.previous))


def visit(login: Login, report: Reporter, digest: str = "") -> None:
    """Request the pages of the current release as a visitor does, and print a summary of the answers.

    Raises CheckError if a page fails. Releases by older versions of bake have no crawler, so they are skipped, and so
    is any other release than `digest`: its pages are those of another person's push.
    """
    result = login.script(remote_scripts.text("site.sh"))
    if result.status:
        return
    current = "".join(result.stdout.split("\n", 3)[2:3])
    if digest and current != digest:
        note = f"another push has replaced release {digest[:12]} by {current[:12]}"
        report.note(f"{note}, so its pages were not requested")
        return

    def ask(crawls: list[pages.Crawl]) -> str:
        return login.script(CRAWL.format(argument=shlex.quote(json.dumps(crawls)))).stdout

    with report.phase("pages"):
        login.script(remote_scripts.text("await-workers.sh"))
        site, author = pages.read_site(result.stdout)
        judgement = pages.judge(ask, site, author, lambda: login.script(JOURNAL).stdout)
    report.note(f"app: {judgement.summary}")
    if judgement.faults:
        paths = dict.fromkeys(fault.address for fault in judgement.faults)
        raise CheckError(
            f"The release is live, but {len(paths)} of its pages fail: {', '.join(list(paths)[:5])}",
            "`bake push HOST --back` rolls back to the previous release.",
            table(judgement.differences),
        )


def _switch(login: Login, state: Facts, digest: str, report: Reporter, expected: tuple[str, ...] = ()) -> str:
    """Switch a machine to a release that it has, or whose bundle it has. Raises the error that app-setup reported.

    `expected` are the current and the previous release, if the machine must still have them.
    """
    machine = state.source.model_dump(exclude={"parts", "bundle"}, exclude_unset=True)
    source = contract_files.Source(**machine, bundle=digest)
    with report.phase("switch"):
        # The machine bounds this wait: TimeoutStartSec of app-next.service and app.service,
        # HEALTH_PATIENCE in serving.py.
        script = remote_scripts.text("switch.sh", source.to_json().rstrip(), digest, *expected)
        result = login.script(script)
    if result.status == CHANGED:
        raise SetupError(
            f"Another push or upgrade has changed {login.host} in the meantime: {result.stderr.strip()}",
            "The machine did not switch. If you still want this release, run the same command again.",
        )
    # The states after this switch. A later one would show those of another push.
    result_json, after, log = [*result.stdout.split("\n", 2), "", ""][:3]
    current, _, previous = after.partition(" ")
    if not current or not NAMES.fullmatch(after):
        new_state = facts(login)
        current, previous = new_state.current, new_state.previous
    if result.status == 0 and current == digest:
        is_same = state.current == digest
        note = " as before" if is_same else f"; `--back` rolls back to {previous[:12]}" if previous else ""
        report.note(f"release {digest[:12]} is live{note}")
        return digest
    failure = Result.failure(result_json) or _failure_in(log)
    if failure is None:
        raise BootError(
            f"The connection to {login.host} was lost during the switch", "Run the same command again.", result.stderr
        )
    if failure.kind == STOPPED:
        raise BootError(
            f"{login.host} stopped the switch before release {digest[:12]} was live, for example by a reboot",
            "It tries this release again when it boots. Run the same command again to see the result.",
            log.strip(),
        )
    report.note(f"release {digest[:12]} is not healthy; {login.host} runs {current[:12]}")
    raise setup_error(failure, log.strip())


def _failure_in(log: str) -> Result | None:
    """Return the result in the journal of a machine that writes no result, because an older version of bake made it.

    Such a machine has the same layout of releases, but reports its failure by a sentence alone.
    """
    setup_log = log.partition("\n--- the app's journal")[0]
    message = setup_log.partition("app-setup failed: ")[2].strip().partition("\nwent back")[0]
    if message.startswith("unhealthy: "):
        return Result(kind=contract.UNHEALTHY, message=message.splitlines()[0].removeprefix("unhealthy: "))
    if message.startswith("app start failed"):
        return Result(kind=contract.NOT_STARTED, message=message)
    return Result(kind=contract.STEP, message=message) if message else None
