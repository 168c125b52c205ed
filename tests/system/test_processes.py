"""An app with programs beside its site: a queue of two, and a mailer without its broker."""

import json
import os

import pytest
from conftest import baked_machine
from test_push import VISITORS, host, visited  # noqa: F401

pytestmark = pytest.mark.long

FILES = {
    "app.py": """\
VERSION = "one"

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [VERSION.encode()]
""",
    # Writes its version, its process and what it does into the app's data.
    "worker.py": """\
import os, signal, sys, time
from app import VERSION

def note(word):
    with open("/var/lib/app/work.log", "a") as log:
        log.write(f"{VERSION} {os.getpid()} {word}\\n")

def stop(*_):
    note("stops")
    sys.exit()

signal.signal(signal.SIGTERM, stop)
note("starts")
while True:
    time.sleep(1)
""",
    "mailer.py": """\
import os, socket
host, port = os.environ["REDIS_URL"].removeprefix("redis://").split(":")
socket.create_connection((host, int(port)))
""",
    "requirements.txt": "",
}
RECIPE = """\
base: {base}
wsgi: app:app
env: {{REDIS_URL: "redis://127.0.0.1:6379"}}
processes:
  queue: {{run: cd . && python worker.py, count: 2, memory: 200M, stop: 20s}}
  mail: python mailer.py
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The app, with a line of its own so that no cache answers."""
    folder = tmp_path_factory.mktemp("apps") / "pulse"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    with (folder / "app.py").open("a") as stream:
        stream.write(f"# {os.urandom(8).hex()}\n")
    (folder / "bake.yaml").write_text(RECIPE.format(base=os.environ.get("BAKE_TEST_BASE", "debian-13")))
    return folder


@pytest.fixture(scope="module")
def machine(folder, bake, tmp_path_factory):
    """A machine of the app's image. The bake did not try the mailer, whose broker is absent."""
    with baked_machine(bake, folder, tmp_path_factory.mktemp("processes")) as (booted, printed):
        assert "process mail-1 is not tried here: its broker is at REDIS_URL" in printed
        yield booted


def state(machine, name):
    """The properties of a process's unit."""
    names = "ActiveState,NRestarts,MainPID,MemoryMax,TimeoutStopUSec,ExecMainStartTimestampMonotonic"
    lines = machine.ssh(f"systemctl show --property {names} app-process@{name}").stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_processes_run_in_the_app_s_sandbox_and_start_again(machine):
    queues = [state(machine, f"queue-{number}") for number in (1, 2)]
    assert [queue["ActiveState"] for queue in queues] == ["active"] * 2
    assert {(queue["MemoryMax"], queue["TimeoutStopUSec"]) for queue in queues} == {("209715200", "20s")}
    pid = queues[0]["MainPID"]
    assert machine.ssh(f"cat /proc/{pid}/comm").stdout.strip() == "python", "the signal reaches the program itself"
    line = machine.ssh("systemd-analyze security --no-pager app-process@queue-1 | tail -n 1").stdout
    assert float(line.split(":", 1)[1].split()[0]) <= 1.3, line
    machine.ssh(f"sudo kill -9 {pid}; sleep 6")
    again = state(machine, "queue-1")
    assert again["ActiveState"] == "active" and again["NRestarts"] == "1" and again["MainPID"] != pid
    assert state(machine, "queue-2")["MainPID"] == queues[1]["MainPID"]


def test_a_process_that_ends_again_and_again_fails_the_check(machine, host, bake):  # noqa: F811
    checked = bake("check", *host)
    assert checked.code == 46
    assert "the process mail-1 of bake.yaml is" in checked.stderr, checked.stderr
    assert "ConnectionRefusedError" in checked.stderr and "queue-2 of bake.yaml" not in checked.stderr


def test_a_push_exchanges_processes_when_the_new_release_serves(machine, host, folder, bake):  # noqa: F811
    (folder / "app.py").write_text((folder / "app.py").read_text().replace('"one"', '"two"'))
    recipe = (folder / "bake.yaml").read_text()
    (folder / "bake.yaml").write_text(recipe.replace("  mail: python mailer.py\n", ""))
    with visited(machine, VISITORS) as seen:
        pushed = bake("push", *host, folder)
    assert pushed.code == 0, pushed.stderr
    assert set(seen) == {"200"}, seen
    log = machine.ssh("sudo cat /var/lib/app/work.log").stdout.splitlines()
    words = [line.split()[::2] for line in log[-4:]]
    assert sorted(words[:2]) == [["one", "stops"]] * 2 and sorted(words[2:]) == [["two", "starts"]] * 2
    served = machine.ssh("systemctl show --value --property ActiveEnterTimestampMonotonic app").stdout
    assert int(state(machine, "queue-1")["ExecMainStartTimestampMonotonic"]) > int(served)
    units = machine.ssh("systemctl list-units --plain --no-legend 'app-process@*'").stdout.splitlines()
    assert [line.split()[0] for line in units] == ["app-process@queue-1.service", "app-process@queue-2.service"]
    checked = bake("check", *host)
    assert checked.code == 0, checked.stderr


def test_a_release_whose_process_cannot_start_is_refused_and_the_old_ones_run_again(
    machine, host, folder, bake  # noqa: F811
):  # fmt: skip
    before = json.loads(machine.ssh("cat /etc/app/source.json").stdout)["bundle"]
    worker = (folder / "worker.py").read_text()
    (folder / "worker.py").write_text(f"import gone_module\n{worker}")
    pushed = bake("push", *host, folder)
    (folder / "worker.py").write_text(worker)
    assert pushed.code == 42, pushed.stderr
    assert "process queue-1 of bake.yaml ended" in pushed.stderr and "No module named 'gone_module'" in pushed.stderr
    assert json.loads(machine.ssh("cat /etc/app/source.json").stdout)["bundle"] == before
    for number in (1, 2):
        assert state(machine, f"queue-{number}")["ActiveState"] == "active"
    assert machine.ssh("sudo tail -n 1 /var/lib/app/work.log").stdout.split()[::2] == ["two", "starts"]
