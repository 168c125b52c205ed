"""The processes of an app beside its site: how a machine exchanges them, and which ones fail a bake."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from types import ModuleType

import pytest
from conftest import REPOSITORY, Fake, running, soon

from bake.bundle import release_files
from bake.config.recipe import Recipe
from bake.host import paths

FEATURE = paths.features() / "processes"
UNITS = FEATURE / "units"
CLOSED = "IPAddressDeny=any IPAddressAllow=localhost"
IMPORT_ERROR = "Traceback (most recent call last):\nModuleNotFoundError: No module named 'celery'"
REFUSED = "redis.exceptions.ConnectionError: Error 111 connecting to redis:6379. Connection refused."
UNSET = """\
  File "<frozen os>", line 714, in __getitem__
KeyError: 'BROKER'
"""


class Machine:
    """A machine whose systemd is a program: its words, which units it lists, and which of them end."""

    def __init__(self, folder: Path, fake: Fake) -> None:
        self.folder = folder
        for name in ("words", "listed", "log"):
            (folder / name).touch()
        fake(
            "systemctl",
            f"""
case "$1" in
    list-units) cat {folder}/listed ;;
    show) echo NRestarts=4; [ -e {folder}/ended ] && echo ActiveState=activating || echo ActiveState=active ;;
    *) echo "$*" >> {folder}/words ;;
esac""",
        )
        fake("journalctl", f"cat {folder}/log")

    def words(self) -> list[str]:
        """What systemd was told since the last look."""
        lines = (self.folder / "words").read_text().splitlines()
        (self.folder / "words").write_text("")
        return lines

    def ends(self, log: str) -> None:
        """Let each process end with some last words."""
        (self.folder / "ended").touch()
        (self.folder / "log").write_text(log)


@pytest.fixture
def machine(tmp_path: Path, setup: ModuleType, fake: Fake) -> Machine:
    """A machine whose processes run."""
    (tmp_path / "machine").mkdir()
    return Machine(tmp_path / "machine", fake)


@pytest.fixture
def processes(
    rooted: Callable[..., ModuleType], steps: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The program of a release, with little patience."""
    module = rooted("processes.py", FEATURE)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.setitem(sys.modules, "processes", module)
    return module


@pytest.fixture
def release(setup: ModuleType) -> Path:
    """A release with a queue of two, and a clock."""
    folder: Path = setup.RELEASES / "one"
    (folder / "settings/processes").mkdir(parents=True)
    for name in ("queue-1", "queue-2", "clock-1"):
        (folder / "settings/processes" / name).touch()
    return folder


UNIT_NAMES = "app-process@clock-1.service app-process@queue-1.service app-process@queue-2.service"


def test_a_release_restarts_its_processes_and_stops_those_it_does_not_have(
    processes: ModuleType, steps: ModuleType, machine: Machine, release: Path
) -> None:
    (machine.folder / "listed").write_text(
        "app-process@queue-1.service loaded active running The app's process queue-1\n"
        "app-process@mail-1.service loaded active running The app's process mail-1\n"
    )
    processes.exchange(release, {}, steps, True)
    assert machine.words() == ["stop app-process@mail-1.service", f"restart {UNIT_NAMES}"]
    # Without a new release or new settings, they go on.
    machine.ends(IMPORT_ERROR)
    processes.exchange(release, {}, steps, False)
    assert machine.words()[-1] == f"start {UNIT_NAMES}"


def test_a_process_that_cannot_import_its_code_fails_the_setup(
    processes: ModuleType, steps: ModuleType, machine: Machine, release: Path, setup: ModuleType
) -> None:
    machine.ends(IMPORT_ERROR)
    for checked in (False, True):
        if checked:
            steps.CHECK.mkdir()
        with pytest.raises(setup.StepError, match=r"process clock-1 of .* -u app-process@clock-1.*queue-2"):
            processes.exchange(release, {}, steps, True)
    # After a rollback, the data may be that of a newer release.
    (release / setup.FOLLOWED).touch()
    processes.exchange(release, {}, steps, True)


@pytest.mark.parametrize(
    ("log", "secrets", "note"),
    [
        (REFUSED, ["REDIS_URL", "SECRET_KEY"], "its broker is at REDIS_URL"),
        (REFUSED, [], "its broker is at BROKER"),
        ("ValueError: Redis URL must specify one of the following", ["REDIS_URL"], "its broker is at REDIS_URL"),
        (UNSET, [], "it needs the variable BROKER"),
    ],
)  # fmt: skip
def test_a_process_without_its_broker_is_not_tried_in_a_bake(
    processes: ModuleType, steps: ModuleType, machine: Machine, release: Path, log: str, secrets: list[str], note: str
) -> None:
    steps.CHECK.mkdir()
    machine.ends(log)
    if not secrets:
        (release / "settings/env").write_text('BROKER="redis://redis"\nDEBUG="0"\n')
    processes.exchange(release, {"secrets": secrets}, steps, True)
    assert steps.NOTES.read_text().splitlines()[0].startswith(f"process clock-1 is not tried here: {note}")
    words = machine.words()
    assert words[0] == f"set-property --runtime app-process@clock-1.service {CLOSED}"
    assert words[3] == f"restart {UNIT_NAMES}" and "stop app-process@queue-2.service" in words


def test_a_running_machine_waits_for_a_broker_but_not_for_a_variable(
    processes: ModuleType, steps: ModuleType, machine: Machine, release: Path, setup: ModuleType
) -> None:
    machine.ends(REFUSED)
    processes.exchange(release, {}, steps, True)
    assert machine.words() == [f"restart {UNIT_NAMES}"] and not steps.NOTES.exists()
    machine.ends(UNSET)
    with pytest.raises(setup.StepError):
        processes.exchange(release, {}, steps, True)


def test_processes_follow_the_health_of_the_site(
    processes: ModuleType, setup: ModuleType, machine: Machine, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(setup.serving, "await_health", lambda recipe: calls.append("health"))
    monkeypatch.setattr(processes, "exchange", lambda *values: calls.append(values[-1]))
    (release / "recipe.json").write_text("{}")
    (release / "settings/processes.py").touch()
    setup.serve(release, changed=True, first=True)
    setup.serve(release, changed=False, first=True)
    assert calls == ["health", True, False]


def test_the_units_run_in_the_app_s_sandbox() -> None:
    sandbox = REPOSITORY / "cloud-init/rootfs/etc/systemd/system/app.service.d/50-sandbox.conf"
    assert (UNITS / "app-process@.service.d/50-sandbox.conf").read_text() == sandbox.read_text()
    # The same two lines as those of the app on EC2, after the sandbox.
    aws = paths.features() / "aws/units/app.service.d/60-aws.conf"
    secrets = (UNITS / "app-process@.service.d/60-secrets.conf").read_text()
    assert secrets.splitlines()[1:] == aws.read_text().splitlines()[1:]


def test_a_release_has_a_script_for_each_process_and_its_limits(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {
            "processes": {"queue": {"run": "A=1 celery -A shop worker", "count": 2, "memory": "512M", "stop": "10m"},
                          "clock": "python clock.py"},
            "limits": {"body": "1G"}, "sandbox": {"allow": ["jit"]},
        }
    )  # fmt: skip
    found = {name: file.text for name, file in release_files.files(tmp_path, recipe, []).items()}
    scripts = {name.rpartition("/")[2]: text for name, text in found.items() if "settings/processes/" in name}
    assert scripts == {
        "queue-1": "exec bash -ec 'A=1 celery -A shop worker'\n",
        "queue-2": "exec bash -ec 'A=1 celery -A shop worker'\n",
        "clock-1": "exec bash -ec 'python clock.py'\n",
    }
    limits = {name: text for name, text in found.items() if "60-process" in name}
    assert limits == {
        f"settings/units/app-process@queue-{number}.service.d/60-process.conf": (
            "[Service]\nMemoryMax=536870912\nTimeoutStopSec=600\n"
        )
        for number in (1, 2)
    }
    features = release_files.feature_files("processes").keys() | release_files.feature_files("steps").keys()
    assert features <= found.keys()
    for name in ("60-tmp.conf", "60-allow.conf"):
        assert found[f"settings/units/app-process@.service.d/{name}"]
    # Other apps get nothing of it.
    others = release_files.files(tmp_path, Recipe.model_validate({"limits": {"body": "1G"}}), [])
    assert not [name for name in others if "process" in name]


@pytest.mark.parametrize("command", ["{}", "cd / && {}", "A=1 {}"])
def test_the_signal_of_systemd_reaches_the_program_itself(tmp_path: Path, marker: str, command: str) -> None:
    recipe = Recipe.model_validate({"processes": {"queue": command.format(f"sleep {marker}")}})
    script = release_files.files(tmp_path, recipe, [])["settings/processes/queue-1"].text
    (tmp_path / "queue-1").write_text(script)
    with Popen(["bash", tmp_path / "queue-1"]) as process:
        assert soon(lambda: running(marker, "sleep") == [process.pid])
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM


def test_the_unit_starts_the_script_from_the_release_s_own_folder() -> None:
    text = (UNITS / "app-process@.service").read_text()
    assert "/bin/bash ${APP_RELEASE}/settings/processes/%i\n" in text and "/srv/app/current" not in text
    assert "Restart=always\n" in text and "KillMode=mixed\n" in text
