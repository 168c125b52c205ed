"""The program that replaces the machine's own files, run on a machine's tree below a folder of the test's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import PROGRAMS, Fake, write

from bake.config import contract
from bake.config.contract_files import Result
from bake.config.debian import DEBIAN_13
from bake.document import machine_set
from bake.document.machine_files import File
from bake.document.machine_set import MachineSet

PROGRAM = machine_set.programs() / "renew.py"
OLD_RELEASE, NEW_RELEASE = "1" * 64, "2" * 64
#: Files of an older machine. The set of today lacks the last two.
OLDER = {
    "usr/lib/app/setup": "the setup of before\n",
    "usr/lib/app/step.py": "PATIENCE = 1\n",
    "etc/systemd/system/app.service": "[Unit]\nDescription=The app of before\n",
    "usr/lib/app/install-wheels": "print('no longer used')\n",
    "etc/systemd/system/app-next.socket": "[Socket]\n",
}
#: Files that belong to the owner, to Debian or to a release. No upgrade touches them.
OTHERS = {
    "etc/app/domains": "shop.example\n",
    "etc/systemd/system/other.service": "[Unit]\n",
    "etc/letsencrypt/live/app/privkey.pem": "a key\n",
    "var/lib/app/instance/shop.db": "orders\n",
    f"srv/app/releases/{OLD_RELEASE}/recipe.json": "{}\n",
    f"srv/app/releases/{NEW_RELEASE}/recipe.json": "{}\n",
}
#: systemctl of a machine: app-setup makes the release of source.json the current one.
SYSTEMCTL = """
echo "systemctl $*" >> {log}
[ "$*" != "start app-setup.service" ] || {{
    release=$(sed -n 's/.*"bundle": "\\([0-9a-f]*\\)".*/\\1/p' {root}/etc/app/source.json)
    ln -sfn {root}/srv/app/releases/$release {root}/srv/app/current
    rm -f {root}/srv/app/tried-after
}}
"""
#: Runs a command of the program again and again, each time on a new copy of a machine, and stops it at its first, its
#: second, its third … step: by SIGKILL, or by an error. Each change of a file and each start of a program is a step.
#: After that it runs a second command to the end, and keeps the result.
STOP = """
import os, shutil, signal, sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

program, machine, root, results, how, stride, first, then = sys.argv[1:]
renew = ModuleType("renew")
renew.__file__ = program
SourceFileLoader("renew", program).exec_module(renew)
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.chmod", "subprocess.Popen"}
UNREACHED = 3

def run(words, stop_at=0):
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    steps = 0
    def hook(event, values):
        nonlocal steps
        if event in CHANGES or event == "open" and values[2] & (os.O_WRONLY | os.O_RDWR):
            steps += 1
            if steps == stop_at and how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif steps == stop_at:
                raise OSError("No space left on device")
    sys.addaudithook(hook)
    try:
        renew.main(words[0], Path(root), *words[1:])
    except (renew.Failed, OSError):
        os._exit(1)
    os._exit(UNREACHED if steps < stop_at else 0)

for step in range(1, 1000, int(stride)):
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(machine, root, symlinks=True)
    if run(first.split(), step) == UNREACHED:
        break
    if run(then.split()):
        print("the second command failed after step", step)
    shutil.copytree(root, f"{results}/{step}", symlinks=True)
"""


def contents(root: Path) -> dict[str, tuple[int, bytes] | str]:
    """Return the mode and the content of each file of a machine, and the target of each link.

    Excludes what an upgrade keeps for itself, and the unit that runs `boot`.
    """
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else (path.stat().st_mode & 0o777, path.read_bytes())
        for path in root.rglob("*")
        if (path.is_symlink() or path.is_file())
        and path.relative_to(root).parts[:3] != ("var", "lib", "app-machine")
        and path.relative_to(root).parts[0] != "run"
        and "app-restore" not in path.name
    }


@pytest.fixture
def root(fake: Fake, tmp_path: Path) -> Path:
    """The folder of an older machine, whose systemd and other programs write down how they are called."""
    root, log = tmp_path / "machine", tmp_path / "log"
    write(root, {**OLDER, **OTHERS, "etc/app/source.json": json.dumps({"layout": "4", "bundle": OLD_RELEASE})})
    (root / "usr/lib/app/setup").chmod(0o755)
    (root / "run/app").mkdir(parents=True)
    (root / "srv/app/current").symlink_to(root / "srv/app/releases" / OLD_RELEASE)
    log.touch()
    fake("systemctl", SYSTEMCTL.format(root=root, log=log))
    for name in ("systemd-sysusers", "systemd-tmpfiles", "journalctl", "sync"):
        fake(name, "")
    # It builds a release, or asks for the health page.
    fake("python3", "")
    return root


def new_set(folder: Path, files: list[File], stanza: File | None = None) -> Path:
    """Return a folder with a set, as it is on a machine after the upload."""
    MachineSet(files).write(folder.with_suffix(".tar"), stanza)
    folder.mkdir()
    subprocess.run(["tar", "-C", folder, "-xf", folder.with_suffix(".tar")], check=True)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small set of another layout, with its release: a changed file, an equal one, and one in a new folder."""
    files = [
        File("/usr/lib/app/setup", 0o755, b"the setup of today\n"),
        File("/usr/lib/app/step.py", 0o644, b"PATIENCE = 1\n"),
        File("/etc/systemd/system/app-build.service.d/50-sandbox.conf", 0o644, b"[Service]\n"),
        File("/etc/systemd/system/app.service", 0o644, b"[Unit]\nDescription=The app\n"),
    ]
    stanza = File("/etc/app/source.json", 0o644, json.dumps({"layout": "6", "bundle": NEW_RELEASE}).encode())
    return new_set(tmp_path / "small", files, stanza)


def renew(*words: object, status: int = 0) -> str:
    """Run the program and return what it printed."""
    argv = [sys.executable, "-B", str(PROGRAM), *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def events(output: str) -> list[dict[str, Any]]:
    """Return the events that the program printed; systemd would take the priority away."""
    return [json.loads(line.removeprefix("<3>").removeprefix("app-upgrade ")) for line in output.splitlines()]


def described(root: Path) -> dict[str, object]:
    return json.loads(renew("describe", root, json.dumps(machine_set.PATHS)))  # type: ignore[no-any-return]


def stop(root: Path, how: str, first: str, then: str, stride: int = 1) -> list[dict[str, tuple[int, bytes] | str]]:
    """Return the contents of a machine for each step at which the first command was stopped, or each `stride`th."""
    tmp_path = root.parent
    machine, results = tmp_path / "before", tmp_path / "results"
    shutil.copytree(root, machine, symlinks=True)
    argv = [sys.executable, "-B", "-c", STOP, PROGRAM, machine, root, results, how, stride, first, then]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    folders = sorted(results.iterdir(), key=lambda folder: int(folder.name))
    assert not [folder for folder in folders if (folder / "var/lib/app-machine/pending").is_symlink()]
    return [contents(folder) for folder in folders]


def test_a_machine_gets_the_files_of_today_and_loses_those_that_today_lacks(root: Path, tmp_path: Path) -> None:
    of_today, before = MachineSet.of(DEBIAN_13), contents(root)
    assert described(root)["version"] == ""
    said = renew("install", root, new_set(tmp_path / "new", of_today.files))
    after = contents(root)
    assert after == {
        **{name: content for name, content in before.items() if name not in OLDER},
        **{file.path[1:]: (file.mode, file.content) for file in of_today.files},
    }
    state = described(root)
    assert (state["version"], state["digest"]) == (of_today.version, machine_set.digest(of_today.files))
    assert state["changed"] == [] and state["pending"] is False
    # The earlier set is kept, as it was.
    kept = Path(events(said)[-1]["kept"][1:])
    assert {name: (root / kept / "files" / name).read_text() for name in OLDER} == OLDER


def test_systemd_and_nginx_read_the_files_after_the_last_of_them_is_there(root: Path, small: Path) -> None:
    renew("install", root, small)
    calls = (root.parent / "log").read_text().splitlines()
    assert calls == [
        "systemctl daemon-reload",
        "systemctl enable --quiet app-configure.service app-setup.service",
        "systemctl try-reload-or-restart nftables.service ssh.service",
        "systemctl start systemd-journald@nginx.socket",
        "systemctl start app-setup.service",
        "systemctl reload-or-restart nginx.service",
    ]


def test_a_release_for_the_new_files_is_served_and_the_earlier_one_is_no_way_back(root: Path, small: Path) -> None:
    (root / "run/app/served").touch()
    (root / "srv/app/previous").symlink_to("older")
    renew("install", root, small)
    assert (root / "srv/app/current").readlink().name == NEW_RELEASE
    assert json.loads((root / "etc/app/source.json").read_text())["layout"] == "6"
    assert not (root / "srv/app/previous").is_symlink() and not (root / "run/app/served").exists()


def test_a_release_of_the_same_layout_leaves_a_way_back(root: Path, small: Path) -> None:
    (root / "etc/app/source.json").write_text(json.dumps({"layout": "6", "bundle": OLD_RELEASE}))
    renew("install", root, small)
    assert (root / "srv/app/previous").readlink().name == OLD_RELEASE


def test_a_second_upgrade_reports_and_keeps_the_files_that_the_owner_changed(root: Path, small: Path) -> None:
    renew("install", root, small)
    (root / "usr/lib/app/step.py").write_text("PATIENCE = 9\n")
    assert described(root)["changed"] == ["/usr/lib/app/step.py"]
    said = renew("install", root, small)
    changed, ended = events(said)
    assert changed == {"changed": "/usr/lib/app/step.py"}
    kept = root / ended["kept"][1:]
    assert (kept / "files/usr/lib/app/step.py").read_text() == "PATIENCE = 9\n"
    assert (root / "usr/lib/app/step.py").read_text() == "PATIENCE = 1\n"
    # Only the set before the current one is kept.
    assert [path for path in (root / "var/lib/app-machine").iterdir() if path.is_dir()] == [kept]


def test_a_damaged_set_changes_nothing(root: Path, small: Path) -> None:
    before = contents(root)
    (small / "files/usr/lib/app/setup").write_text("cut o")
    said = renew("install", root, small, status=1)
    assert events(said) == [{"failed": "the set is damaged", "result": None}]
    assert contents(root) == before and described(root)["pending"] is False


@pytest.mark.parametrize(("how", "stride"), [("kill", 1), ("error", 4)])
def test_an_upgrade_stopped_at_any_step_leaves_one_whole_set(root: Path, small: Path, how: str, stride: int) -> None:
    """After `install` ends, systemd runs `heal`: also if it was killed."""
    (root / "srv/app/previous").symlink_to("older")
    before = contents(root)
    results = stop(root, how, f"install {small}", "heal", stride)
    renew("install", root, small)
    after = contents(root)
    assert before != after and len(results) > 90 / stride
    assert all(result in (before, after) for result in results)
    assert results.count(before) > 80 / stride and results[0] == before and results[-1] == after


def test_a_machine_that_lost_power_puts_its_files_back_before_its_units_start(
    root: Path, small: Path, tmp_path: Path
) -> None:
    before = contents(root)
    results = stop(root, "kill", f"install {small}", "boot", stride=4)
    renew("install", root, small)
    for result in results:
        # app-setup runs later in the boot. TRIED makes it serve the earlier release without another way back.
        if "srv/app/tried-after" in result:
            assert Path(str(result.pop("srv/app/tried-after"))).name == OLD_RELEASE
            result["srv/app/current"] = before["srv/app/current"]
        assert result in (before, contents(root))


def test_putting_back_can_itself_be_killed_at_any_step(root: Path, small: Path, tmp_path: Path, fake: Fake) -> None:
    before = contents(root)
    systemctl = Path(os.environ["PATH"].split(os.pathsep)[0], "systemctl").read_text()
    fake("systemctl", f"{systemctl}\n[ \"$*\" != 'reload-or-restart nginx.service' ]")
    assert "`systemctl reload-or-restart nginx.service` failed" in renew("install", root, small, status=1)
    assert contents(root) != before and described(root)["pending"] is True
    fake("systemctl", systemctl)
    results = stop(root, "kill", "heal", "heal", stride=3)
    assert len(results) > 20 and all(result == before for result in results)


def test_the_next_upgrade_puts_back_what_a_killed_one_left_and_then_succeeds(
    root: Path, small: Path, tmp_path: Path
) -> None:
    results = stop(root, "kill", f"install {small}", f"install {small}", stride=9)
    assert all(result == contents(root) for result in results)


def test_a_run_of_app_setup_that_outlives_a_killed_upgrade_ends_before_the_files_go_back(
    root: Path, small: Path, fake: Fake
) -> None:
    fake("python3", "exit 1")
    renew("install", root, small, status=1)
    fake("systemctl", f'echo "$* $(head -n 1 {root}/usr/lib/app/setup)" >> {root}.log')
    fake("python3", "")
    renew("heal", root)
    assert Path(f"{root}.log").read_text().splitlines()[0] == "stop app-setup.service the setup of today"


def test_an_unhealthy_machine_goes_back_and_names_the_reason(root: Path, small: Path, fake: Fake) -> None:
    before = contents(root)
    result = '{"step": "app", "kind": "Unhealthy", "message": "/ answers 500"}'
    fake("python3", f"case $2 in */health.py) echo 'app-setup result: {result}'; exit 1;; esac")
    said = renew("install", root, small, status=1)
    assert said.startswith("<3>") and events(said) == [
        {"failed": "app-setup failed: / answers 500", "result": json.loads(result)}
    ]
    fake("python3", "")
    assert events(renew("heal", root)) == [{"back": True, "problem": None}]
    assert contents(root) == before and described(root)["pending"] is False


def test_the_reason_of_app_setup_is_in_its_result(root: Path, small: Path, fake: Fake) -> None:
    result = '{"step": "settings", "kind": "Waiting", "message": "missing secrets: KEY"}'
    write(root, {"run/app/result.json": '{"kind": "StepError", "message": "of an earlier run"}'})
    writes = f"echo '{result}' > {root}/run/app/result.json"
    fake("systemctl", f"[ \"$*\" != 'start app-setup.service' ] || {{ {writes}; exit 1; }}")
    said = renew("install", root, small, status=1)
    assert events(said) == [{"failed": "app-setup failed: missing secrets: KEY", "result": json.loads(result)}]
    (back,) = events(renew("heal", root))
    assert back == {"back": True, "problem": "app-setup failed: missing secrets: KEY"}


def test_an_app_setup_that_writes_no_result_has_its_reason_in_the_journal(root: Path, small: Path, fake: Fake) -> None:
    write(root, {"run/app/result.json": '{"kind": "StepError", "message": "of an earlier run"}'})
    fake("systemctl", "[ \"$*\" != 'start app-setup.service' ] || exit 1")
    said = renew("install", root, small, status=1)
    assert events(said) == [{"failed": "app-setup failed: see `journalctl -u app-setup`", "result": None}]


def test_systemd_runs_boot_only_after_a_reboot_during_an_upgrade(root: Path, small: Path, fake: Fake) -> None:
    """systemd starts a wanted unit of sysinit.target whenever it starts another unit: also while `install` runs."""
    fake(
        "systemctl",
        f"[ \"$*\" != 'start app-setup.service' ] || cp {root}/etc/systemd/system/app-restore.service {root}",
    )
    renew("install", root, small)
    unit = (root / "app-restore.service").read_text()
    assert "\nConditionPathExists=!/run/app-upgrade\n" in unit
    assert "\nConditionPathExists=/var/lib/app-machine/pending\n" in unit
    assert not (root / "etc/systemd/system/app-restore.service").exists() and not (root / "run/app-upgrade").exists()


def programs(folder: Path, **constants: object) -> Path:
    """Return a folder with the machine's programs, some of whose constants have another value."""
    shutil.copytree(PROGRAMS, folder)
    for name, value in constants.items():
        file = next(path for path in folder.iterdir() if path.is_file() and f"\n{name} = " in path.read_text())
        file.write_text(re.sub(f"(?m)^{name} = .*", f"{name} = {value}", file.read_text()))
    return folder


def beside(name: str, *words: object) -> tuple[int, str]:
    """Run a program that comes with a set, and return its status and its last line."""
    argv = [sys.executable, "-B", str(machine_set.programs() / name), *map(str, words)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, (done.stdout.splitlines() or [""])[-1]


def test_the_health_is_judged_by_the_machine_s_own_rule(tmp_path: Path) -> None:
    write(tmp_path, {"names": "shop.example\n", "recipe.json": '{"check": {"health": "/steps"}}'})
    folder = programs(tmp_path / "app", HEALTH_PATIENCE=0.1, NAMES=f"Path('{tmp_path}/names')")
    status, said = beside("health.py", folder, tmp_path / "recipe.json")
    result = Result.failure(said.removeprefix("app-setup result: "))
    assert status == 1 and result and (result.step, result.kind) == ("app", contract.UNHEALTHY)
    assert result.message.startswith("/steps ")


def test_a_release_is_built_by_the_machine_s_own_app_setup(tmp_path: Path, fake: Fake) -> None:
    fake("systemctl", "")
    fake("dpkg-query", 'shift 3; for name in "$@"; do echo "=installed $name"; done')
    write(tmp_path, {"releases/12ab/recipe.json": "{}", "run/state": ""})
    folders = {name: f"Path('{tmp_path}/{name.lower()}')" for name in ("RELEASES", "INCOMING")}
    folder = programs(tmp_path / "app", STATE=f"Path('{tmp_path}/run/state')", **folders)
    (folder / "packages").write_text("nginx\n")
    (folder / "setup").write_text((folder / "setup").read_text().replace("/usr/lib/app/packages", f"{folder}/packages"))
    assert beside("install_release.py", folder, '{"bundle": "12ab"}') == (0, "")
    status, said = beside("install_release.py", folder, '{"bundle": "34cd"}')
    result = Result.failure(said.removeprefix("app-setup result: "))
    assert status == 1 and result and result.step == "release" and "34cd.tar" in result.message
    fake("dpkg-query", "")
    fake("dpkg", "echo hopeless; exit 1")
    status, said = beside("install_release.py", folder, '{"bundle": "12ab"}')
    result = Result.failure(said.removeprefix("app-setup result: "))
    assert status == 1 and result and result.message.endswith("failed with 1:\nhopeless")
