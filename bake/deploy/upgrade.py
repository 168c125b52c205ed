"""Renew the machine's own files on a running machine, and report the result.

The program `renew.py`, which is uploaded with the files, does the work on the machine. So a lost connection leaves the
machine in a consistent state.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass

from bake import __version__
from bake.config import contract
from bake.config.contract_files import Result, Source
from bake.config.debian import Target
from bake.deploy import push
from bake.diagnosis.diagnosis import setup_error
from bake.document import machine_set, release_source
from bake.document.machine_set import MachineSet
from bake.errors import BakeError, BootError, SetupError
from bake.host import cache, foreign_text, remote_scripts
from bake.host.progress import Reporter
from bake.vm.ssh import Login

#: The folder on the machine that keeps the earlier files.
HOME = contract.MACHINE_SET
#: The text before the JSON of an event in the output of renew.py.
EVENT = "app-upgrade "


@dataclass(frozen=True)
class State:
    """The state of a machine's own files.

    `version` is that of the last upgrade, "" without one. `changed` are the files changed since then. An upgrade is
    `pending` if it has not ended yet.
    """

    target: Target
    layout: str
    version: str
    digest: str
    changed: tuple[str, ...]
    pending: bool

    def version_text(self, new: MachineSet) -> str:
        """Return the version of the machine's files. `new` is the set of this version of bake for the machine."""
        if new.is_digest(self.digest):
            return new.version
        if not self.version:
            return f"unknown (layout {self.layout or 'unknown'})"
        return self.version + (f" with {len(self.changed)} changed files" if self.changed else "")


@dataclass(frozen=True)
class Outcome:
    """The events of an upgrade that renew.py printed.

    `changed` are the files that were changed on the machine, and `kept` is the folder with the earlier files, "" before
    the end. `failed` is the reason of a failure, and `result` that of app-setup. `problem` is the reason why the
    machine is unhealthy with its earlier files.
    """

    changed: tuple[str, ...] = ()
    kept: str = ""
    failed: str = ""
    result: Result | None = None
    problem: str = ""

    @classmethod
    def read(cls, stdout: str) -> Outcome:
        """Return the events in the output of upgrade.sh. A lost connection may cut it."""
        events: dict[str, object] = {}
        changed: list[str] = []
        for line in stdout.splitlines():
            with contextlib.suppress(ValueError, TypeError):
                event = foreign_text.from_json(line.removeprefix(EVENT)) if line.startswith(EVENT) else {}
                changed += [event["changed"]] if "changed" in event else []
                events |= event
        result = Result.failure(json.dumps(events.get("result")))
        texts = {name: str(events.get(name) or "") for name in ("kept", "failed", "problem")}
        return cls(tuple(changed), result=result, **texts)


def state(login: Login, source: Source) -> State:
    """Read the state of the own files of a machine with this source.json.

    Raises BootError if the login fails, and SetupError for a machine that this version of bake does not support.
    """
    login.require()
    program = (machine_set.programs() / "renew.py").read_text()
    result = login.script(remote_scripts.text("describe.sh", program, json.dumps(machine_set.PATHS)))
    try:
        fields = foreign_text.from_json(result.stdout)
        fields["changed"] = tuple(fields["changed"])
        return State(target=push.target_of(login, source), layout=source.layout, **fields)
    except (ValueError, KeyError, TypeError):
        raise SetupError(
            f"{login.host} cannot describe its own files",
            "Its output is above. Its Python must be that of a Debian version that bake supports.",
            f"{result.stdout}{result.stderr}",
        ) from None


def versions(login: Login) -> str:
    """Return a sentence with the version of the machine's own files and that of this version of bake."""
    try:
        machine = state(login, push.facts(login).source)
    except SetupError as error:
        return f"the machine's own files: unknown, because {error.message}; this bake is {__version__}"
    new = MachineSet.of(machine.target)
    text = f"the machine's own files: {machine.version_text(new)}; those of this bake: {new.version}"
    return text if new.is_digest(machine.digest) else f"{text}. `bake upgrade` renews them."


@dataclass(frozen=True)
class Upgraded:
    """The version of the machine's own files, and the digest of the release that came with them, or ""."""

    version: str
    release: str = ""


def upgrade(login: Login, source: push.Source | None, report: Reporter) -> Upgraded:
    """Install this bake's set of the machine's own files, and the release of `source`.

    If the machine is unhealthy with them, it goes back to its earlier files and release. Then this raises the error.
    """
    facts = push.facts(login)
    before = state(login, facts.source)
    new = MachineSet.of(before.target)
    if before.layout.isdecimal() and int(before.layout) > int(contract.LAYOUT):
        raise SetupError(f"A newer version of bake made {login.host}", "Upgrade with that version, or a newer one.")
    if source is None:
        if before.layout != contract.LAYOUT:
            raise SetupError(
                f"{login.host} runs a release that the new files of the machine cannot run: its layout differs",
                f"Name the app's folder, to bring its release too: bake upgrade {login.address.geturl()} FOLDER",
            )
        if new.is_digest(before.digest) and not before.pending:
            report.note(f"{login.host} has these files already; nothing was changed")
            return Upgraded(new.version)
    release, stanza = "", None
    if source:
        release = push.upload_release(login, facts, before.target, source, report)
        stanza = release_source.stanza(before.target, bundle=release)
    with cache.work_folder() as work, report.phase("upgrade") as phase:
        new.write(work / "new.tar", stanza)
        # Another upgrade may upload its set at the same moment.
        name = f"new-{secrets.token_hex(8)}.tar"
        login.upload(work / "new.tar", f"{HOME}/{name}", lambda share: None)
        phase.progress(None, "installing")
        result = login.script(remote_scripts.text("upgrade.sh", name))
    after = state(login, facts.source)
    outcome = Outcome.read(result.stdout)
    for path in outcome.changed:
        report.note(f"{path} was changed on the machine; its copy is in {HOME}")
    # Its last event says that an upgrade is complete. Another one may have begun since.
    is_complete = result.status == 0 and bool(outcome.kept)
    if not is_complete and (result.status or after.version != new.version or after.pending):
        files = "only a part of its files. Run the same command again: it repairs them first"
        if not after.pending:
            files = "its earlier files again" if after.digest == before.digest else "the new files"
        raise _error(login, outcome, f"{result.stdout}{result.stderr}", files)
    report.note(f"{before.version_text(new)} became {new.version}")
    report.note(f"the earlier files are in {outcome.kept}")
    return Upgraded(new.version, release)


def _error(login: Login, outcome: Outcome, output: str, files: str) -> BakeError:
    """Return the error for an upgrade that failed, with the output of upgrade.sh. `files` are those of the machine."""
    if not outcome.failed:
        return BootError(
            f"The connection to {login.host} was lost during the upgrade, or the machine stopped it",
            "Run the same command again.",
            output,
        )
    if outcome.result:
        error = setup_error(outcome.result, output.strip())
    else:
        reason = f"{login.host} could not be upgraded: {outcome.failed}"
        error = SetupError(reason, "Correct the cause and try again.", output)
    error.hint += f"\n{login.host} has {files}{f', but: {outcome.problem}' if outcome.problem else ''}."
    return error
