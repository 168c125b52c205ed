"""`bake upgrade`, with an ssh that runs the real program here, on a machine's tree below a folder of the test's."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from conftest import Fake, write

from bake.bundle.app_source import AppSource
from bake.config import contract
from bake.config.debian import DEBIAN_13
from bake.deploy import push, upgrade
from bake.document import cloud_config, machine_set
from bake.document.machine_files import File
from bake.document.machine_set import MachineSet
from bake.errors import BootError, SetupError, UnhealthyError
from bake.host import remote_scripts
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.vm.ssh import Login

RELEASE = "1" * 64
#: Leaves out options and their values, which end with --, then the host.
SSH = 'while [ "$1" != -- ]; do shift 2; done; shift 2; exec sh -c "$*"'
#: Runs a command and then the one of ExecStopPost. Both write to the journal.
SYSTEMD_RUN = """
shift 8
post=${{1#ExecStopPost=}}
shift
"$@" > {root}.journal
status=$?
$post >> {root}.journal
exit $status
"""
SYSTEMCTL = """
[ "$*" != "start app-setup.service" ] || {{
    release=$(sed -n 's/.*"bundle": "\\([0-9a-f]*\\)".*/\\1/p' {root}/etc/app/source.json)
    mkdir -p {root}/srv/app/releases/$release
    ln -sfn {root}/srv/app/releases/$release {root}/srv/app/current
}}
"""


class Machine:
    """A machine that runs the release of a layout, with the files of today's set, and one that differs."""

    def __init__(self, root: Path, fake: Fake) -> None:
        self.root, self.fake, self.notes = root, fake, io.StringIO()
        for name, script in {"systemd-run": SYSTEMD_RUN, "systemctl": SYSTEMCTL}.items():
            fake(name, script.format(root=root))
        fake("ssh", SSH)
        fake("sudo", 'shift; exec "$@"')
        fake("journalctl", f"case $* in *app-upgrade*) sed 's/^<3>//' {root}.journal;; esac")
        for name in ("systemd-sysusers", "systemd-tmpfiles", "flock", "sync"):
            fake(name, "")
        self.healthy(True)
        self.login = Login.at("ssh://debian@machine.example")
        self.report = Reporter(Terminal(file=self.notes, width=200))
        self.become("6", [cloud_config.strip(file) for file in MachineSet.of(DEBIAN_13).files])
        (root / "usr/lib/app/setup").write_text("an older one\n")

    def become(self, layout: str, files: list[File]) -> None:
        stanza = {"release": "debian-13", "machine": "x86_64", "layout": layout, "bundle": RELEASE}
        write(self.root, {"etc/app/source.json": json.dumps(stanza), f"srv/app/releases/{RELEASE}/recipe.json": "{}"})
        for name in ("run/app", "var/lib/app-incoming"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name in ("current", "previous"):
            (self.root / "srv/app" / name).symlink_to(self.root / "srv/app/releases" / RELEASE)
        for file in files:
            place = self.root / file.path[1:]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.content)
            place.chmod(file.mode)

    def healthy(self, is_healthy: bool) -> None:
        """Answer the health page with 200, or with 500. All other programs in Python run."""
        real = 'exec /usr/bin/python3 "$@"'
        result = '{"step": "app", "kind": "Unhealthy", "message": "/ answers 500"}'
        answer = "exit 0" if is_healthy else f"echo 'app-setup result: {result}'; exit 1"
        self.fake("python3", f"case $2 in */health.py) {answer};; */install_release.py) exit 0;; esac; {real}")

    def set_layout(self, layout: str) -> None:
        path = self.root / "etc/app/source.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "layout": layout}))


@pytest.fixture
def machine(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Machine:
    root, original = tmp_path / "machine", remote_scripts.text

    def placed(name: str, *arguments: str) -> str:
        """Return a script for a machine whose root is a folder. The program that it gets is unchanged."""
        *first, script = original(name, *arguments).partition("#!/bin/sh")
        script = re.sub(r"(describe|install|heal) /(?=[ \"])", rf"\1 {root}", script)
        first = [part.replace(" /var/lib/", f" {root}/var/lib/") for part in first] if name == "upload.sh" else first
        return "".join([*first, re.sub(r"(?<=[ \"])/(var/lib|etc/app|srv|run)/", rf"{root}/\1/", script)])

    monkeypatch.setattr(remote_scripts, "text", placed)
    return Machine(root, fake)


def source(app: Path, report: Reporter) -> push.Source:
    (app / "app.py").write_text("def app(environ, start):\n    start('200 OK', [])\n    return []\n")
    (app / "bake.yaml").write_text("wsgi: app:app\n")
    return push.Source(app, lambda base: AppSource.read_unresolved(app, report, base))


def test_a_machine_gets_the_set_and_both_versions_are_printed(machine: Machine) -> None:
    new = MachineSet.of(DEBIAN_13)
    text = upgrade.versions(machine.login)
    assert text.startswith(f"the machine's own files: unknown (layout 6); those of this bake: {new.version}. `bake up")
    assert upgrade.upgrade(machine.login, None, machine.report) == upgrade.Upgraded(new.version)
    assert upgrade.versions(machine.login) == (
        f"the machine's own files: {new.version}; those of this bake: {new.version}"
    )
    assert f"unknown (layout 6) became {new.version}" in machine.notes.getvalue()
    assert "the earlier files are in /var/lib/app-machine/" in machine.notes.getvalue()
    assert all((machine.root / file.path[1:]).read_bytes() == file.content for file in new.files)
    assert not (machine.root / "var/lib/app-machine/new").exists()


def test_the_release_is_read_from_one_place(machine: Machine) -> None:
    """`describe` printed it as well."""
    script = remote_scripts.text("describe.sh", (machine_set.programs() / "renew.py").read_text(), "[]")
    assert sorted(json.loads(machine.login.script(script).stdout)) == ["changed", "digest", "pending", "version"]


def test_a_machine_that_has_the_set_is_left_alone(machine: Machine) -> None:
    upgrade.upgrade(machine.login, None, machine.report)
    machine.fake("systemd-run", "exit 1")
    assert upgrade.upgrade(machine.login, None, machine.report) == upgrade.Upgraded(MachineSet.of(DEBIAN_13).version)
    assert "nothing was changed" in machine.notes.getvalue()


def test_a_file_that_was_changed_on_the_machine_is_reported(machine: Machine) -> None:
    upgrade.upgrade(machine.login, None, machine.report)
    (machine.root / "usr/lib/app/boot").write_text("my own\n")
    assert "with 1 changed files; those of this bake" in upgrade.versions(machine.login)
    upgrade.upgrade(machine.login, None, machine.report)
    assert "/usr/lib/app/boot was changed on the machine; its copy is in" in machine.notes.getvalue()


def test_an_unhealthy_machine_has_its_earlier_files_again(machine: Machine) -> None:
    machine.healthy(False)
    with pytest.raises(UnhealthyError) as caught:
        upgrade.upgrade(machine.login, None, machine.report)
    assert caught.value.message == "The app starts, but / answers 500"
    assert "machine.example has its earlier files again" in caught.value.hint
    assert (machine.root / "usr/lib/app/setup").read_text() == "an older one\n"


def test_a_program_that_fails_is_named(machine: Machine) -> None:
    machine.fake("systemd-sysusers", "echo 'no space'; exit 4")
    with pytest.raises(SetupError, match="could not be upgraded: `systemd-sysusers` failed with 4: no space") as caught:
        upgrade.upgrade(machine.login, None, machine.report)
    assert "has its earlier files again, but: `systemd-sysusers` failed" in caught.value.hint


def test_a_machine_that_could_not_be_repaired_is_repaired_by_the_next_upgrade(machine: Machine) -> None:
    machine.healthy(False)
    machine.fake("sync", f"[ ! -e {machine.root}/var/lib/app-machine/pending ] || {{ echo 'no space'; exit 1; }}")
    with pytest.raises(SetupError) as caught:
        upgrade.upgrade(machine.login, None, machine.report)
    assert "machine.example has only a part of its files. Run the same command again" in caught.value.hint
    machine.fake("sync", "")
    machine.healthy(True)
    assert upgrade.upgrade(machine.login, None, machine.report) == upgrade.Upgraded(MachineSet.of(DEBIAN_13).version)


def test_the_reason_of_an_earlier_repair_does_not_end_in_a_later_error() -> None:
    lines = [
        'app-upgrade {"back": true, "problem": "no space"}', 'app-upgrade {"failed": "damaged", "result": null}',
        'app-upgrade {"back": true, "problem": null}', 'app-upgrade {"cut o', "app-upgrade: a line of systemd",
    ]  # fmt: skip
    assert upgrade.Outcome.read("\n".join(lines)) == upgrade.Outcome(failed="damaged")
    for text in ("[" * 100_000, "5", "[5]", "null"):
        assert upgrade.Outcome.read(f"app-upgrade {text}") == upgrade.Outcome()


def test_a_lost_connection_says_to_run_the_command_again(machine: Machine) -> None:
    machine.fake("systemd-run", "kill -9 $PPID")
    with pytest.raises(BootError, match=r"The connection to machine\.example was lost") as caught:
        upgrade.upgrade(machine.login, None, machine.report)
    assert caught.value.hint == "Run the same command again."
    assert (machine.root / "usr/lib/app/setup").read_text() == "an older one\n"


def test_an_upgrade_installs_its_own_upload_while_another_one_uploads(machine: Machine) -> None:
    """Both wrote to new.tar: the first one installed the set and the release of the second, and reported success."""
    folder = machine.root / "var/lib/app-machine"
    # Another person uploads while this upgrade waits for the lock.
    machine.fake("flock", f"mkdir -p {folder}; echo of another person > {folder}/new.tar")
    assert upgrade.upgrade(machine.login, None, machine.report) == upgrade.Upgraded(MachineSet.of(DEBIAN_13).version)
    assert [path.name for path in folder.glob("*.tar*")] == ["new.tar"]


def test_an_upgrade_is_complete_although_another_one_has_begun(machine: Machine) -> None:
    folder = machine.root / "var/lib/app-machine"
    begin = f"ln -sfn {RELEASE[:12]} {folder}/pending"
    machine.fake("journalctl", f"case $* in *app-upgrade*) sed 's/^<3>//' {machine.root}.journal; {begin};; esac")
    assert upgrade.upgrade(machine.login, None, machine.report) == upgrade.Upgraded(MachineSet.of(DEBIAN_13).version)


def test_another_layout_needs_the_app_s_folder(machine: Machine) -> None:
    machine.set_layout("4")
    with pytest.raises(SetupError) as caught:
        upgrade.upgrade(machine.login, None, machine.report)
    assert caught.value.hint.endswith("bake upgrade ssh://debian@machine.example FOLDER")
    assert (machine.root / "usr/lib/app/setup").read_text() == "an older one\n"


def test_another_layout_is_upgraded_with_a_release(machine: Machine, app: Path, cache_folder: Path) -> None:
    machine.set_layout("4")
    upgraded = upgrade.upgrade(machine.login, source(app, machine.report), machine.report)
    stanza = json.loads((machine.root / "etc/app/source.json").read_text())
    # Only the pages of this release are requested afterwards.
    assert upgraded.release == stanza["bundle"]
    assert stanza["layout"] == contract.LAYOUT and stanza["bundle"] != RELEASE
    assert (machine.root / f"var/lib/app-incoming/{stanza['bundle']}.tar").is_file()
    assert push.facts(machine.login).current == stanza["bundle"] and push.facts(machine.login).previous == ""


def test_a_push_to_another_layout_names_the_upgrade(machine: Machine, app: Path) -> None:
    machine.set_layout("4")
    with pytest.raises(SetupError, match="with a different layout of releases") as caught:
        push.push(machine.login, source(app, machine.report), machine.report)
    assert caught.value.hint.endswith(f": bake upgrade ssh://debian@machine.example {app}")


def test_a_machine_of_a_newer_bake_is_left_to_it(machine: Machine) -> None:
    machine.set_layout("7")
    with pytest.raises(SetupError, match=r"A newer version of bake made machine\.example"):
        upgrade.upgrade(machine.login, None, machine.report)


def test_the_versions_of_a_machine_that_bake_did_not_make_are_unknown(machine: Machine) -> None:
    (machine.root / "etc/app/source.json").unlink()
    assert "unknown, because machine.example does not run a release that bake made" in upgrade.versions(machine.login)
