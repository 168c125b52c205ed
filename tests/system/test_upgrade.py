"""`bake upgrade` of a machine that bake made at 612737a, whose layout is 4, with visitors on it all the time."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import AWAIT_BOOT, EXAMPLE, extended, settled
from test_push import host, visited  # noqa: F401

from bake.config.debian import TARGETS
from bake.document.machine_set import MachineSet
from bake.verify import proof

pytestmark = pytest.mark.long

OLDER = "612737a"
REPOSITORY = Path(__file__).parents[2]
BASE = os.environ.get("BAKE_TEST_BASE", "debian-13")
RECIPE = f"""
writable: [instance]
setup: ["date >> instance/steps"]
check: {{health: /steps}}
base: {BASE}
"""
STEPS = """
from pathlib import Path

@app.route("/steps")
def steps():
    return Path("instance/steps").read_text()
"""
#: Visitors until /tmp/stop exists. Two connect anew for each request. Two keep their connections: if nginx closes one
#: that is idle, they send the request once more, as browsers do (RFC 9112, section 9.3.1). Prints their answers.
VISITORS = """
import collections, http.client, json, os, ssl, threading, time
seen = collections.Counter()
context = ssl._create_unverified_context()

def ask(connection):
    connection.request("GET", "/steps")
    answer = connection.getresponse()
    answer.read()
    return str(answer.status)

def visit(kind, new, keeps):
    connection, used = new(), False
    while not os.path.exists("/tmp/stop"):
        try:
            try:
                status = ask(connection)
            except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
                connection.close()
                if not used:
                    raise
                status = ask(connection)
        except (OSError, http.client.HTTPException) as error:
            status = repr(error)
        used = keeps
        if not keeps:
            connection.close()
        seen[f"{kind} {status}"] += 1
        time.sleep(0.05)

def http_site(): return http.client.HTTPConnection("127.0.0.1", 80, timeout=60)
def https_site(): return http.client.HTTPSConnection("127.0.0.1", 443, timeout=60, context=context)

visitors = [
    threading.Thread(target=visit, args=(kind, new, keeps))
    for kind, new, keeps in (
        ("new http", http_site, False), ("new https", https_site, False),
        ("kept http", http_site, True), ("kept https", https_site, True),
    )
]
for visitor in visitors: visitor.start()
for visitor in visitors: visitor.join()
print(json.dumps(seen))
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a small app that counts its setups."""
    return extended(EXAMPLE, tmp_path_factory.mktemp("apps") / "flask-older", RECIPE, STEPS)


@pytest.fixture(scope="session")
def older(folder, tmp_path_factory):
    """The app's image, baked by a checkout of 612737a with the libraries of today and a cache of its own."""
    where = tmp_path_factory.mktemp("older")
    checkout = where / "bake-older"
    env = {**os.environ, "PYTHONPATH": str(checkout), "BAKE_CACHE": str(where / "cache")}
    git = ("git", "-C", str(REPOSITORY))
    subprocess.run([*git, "worktree", "add", "--detach", str(checkout), OLDER], check=True, capture_output=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bake", "image", folder], cwd=where, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=3600, env=env,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        yield Path(done.stdout.strip())
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(checkout)], check=True)


@pytest.fixture
def machine(older, tmp_path):
    """The older image, booted and settled."""
    with settled(older, tmp_path, proof.UserData()) as booted:
        yield booted


def layout(machine):
    return json.loads(machine.ssh("cat /etc/app/source.json").stdout)["layout"]


def programs_of(machine):
    """The digests of the machine's own programs."""
    return machine.ssh(
        "cd /usr/lib/app && find . -type f ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum"
    ).stdout


def steps(machine):
    return len(machine.ssh("sudo cat /var/lib/app/instance/steps").stdout.splitlines())


def test_an_older_machine_is_upgraded_under_load(folder, machine, host, bake, tmp_path):  # noqa: F811
    version = MachineSet.of(TARGETS[BASE]).version
    assert layout(machine) == "4"
    before, count = programs_of(machine), steps(machine)
    # A push names the command.
    called = bake("push", *host, folder)
    assert called.code == 42 and f"bake upgrade -i {host[2]} {host[0]} {folder}" in called.stderr, called.stderr

    # An app that is unhealthy with the new files: the machine goes back by itself.
    ill = tmp_path / "ill"
    shutil.copytree(folder, ill)
    text = (ill / "app.py").read_text()
    (ill / "app.py").write_text(text.replace('return Path("instance/steps").read_text()', "1 / 0"))
    with visited(machine, VISITORS) as seen:
        called = bake("upgrade", *host, ill, timeout=3600)
    assert called.code == 44 and "/steps answers 500" in called.stderr, called.stderr
    assert "has its earlier files again." in called.stderr
    assert {kind.rpartition(" ")[2] for kind in seen} == {"200"} and len(seen) == 4, seen
    assert programs_of(machine) == before and layout(machine) == "4"

    with visited(machine, VISITORS) as seen:
        called = bake("upgrade", *host, folder, timeout=3600)
    assert called.code == 0 and called.stdout.strip() == version, called.stderr
    assert f"unknown (layout 4) became {version}" in called.stderr
    assert {kind.rpartition(" ")[2] for kind in seen} == {"200"} and len(seen) == 4, seen
    assert sum(seen.values()) >= 500, seen
    assert layout(machine) == "6" and steps(machine) > count
    assert machine.ssh("test -e /usr/lib/app/install-wheels", check=False).status
    assert programs_of(machine) != before

    # It passes every check, also after a reboot, and a push works.
    for reboots in (False, True):
        if reboots:
            machine.reboot()
            machine.ssh(AWAIT_BOOT, check=False, timeout=900)
        checked = bake("check", *host)
        assert checked.code == 0, checked.stderr
        assert f"the machine's own files: {version}; those of this bake: {version}" in checked.stderr
    refused = bake("push", *host, "--back")
    assert refused.code == 42 and "has no previous release" in refused.stderr
    (folder / "templates" / "hello.html").write_text("<p>the second version</p>")
    assert bake("push", *host, folder).code == 0
    # Nothing to do; the same set again, by force of a release, works as well.
    assert "nothing was changed" in bake("upgrade", *host).stderr
    assert bake("upgrade", *host, folder, timeout=3600).code == 0


def test_a_killed_upgrade_and_a_power_cut_leave_the_earlier_files(folder, machine, host, bake):  # noqa: F811
    before = programs_of(machine)

    def upgrade_until(stop):
        """Begin an upgrade, and stop it while it is pending and its files are in place."""
        called = []
        thread = threading.Thread(target=lambda: called.append(bake("upgrade", *host, folder, timeout=3600)))
        thread.start()
        deadline = time.monotonic() + 1200
        # sysusers.d is among the last files that are renamed.
        while machine.ssh("grep -q app-build /usr/lib/sysusers.d/app.conf", check=False).status:
            assert time.monotonic() < deadline and thread.is_alive(), called
            time.sleep(0.2)
        machine.ssh(stop, check=False)
        return thread, called

    thread, called = upgrade_until("sudo systemctl kill --signal KILL app-upgrade.service")
    thread.join(1800)
    assert called[0].code != 0
    assert programs_of(machine) == before and layout(machine) == "4"
    assert machine.ssh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/steps").stdout == "200"

    boot = machine.await_ssh()
    thread, called = upgrade_until("sudo sh -c 'echo b > /proc/sysrq-trigger'")
    machine.await_ssh(rebooted_since=boot)
    thread.join(1800)
    assert called[0].code != 0
    machine.ssh(AWAIT_BOOT, check=False, timeout=900)
    assert programs_of(machine) == before and layout(machine) == "4"
    assert machine.ssh("journalctl -b -u app-restore.service").stdout.count('"back": true') == 1
    assert machine.ssh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/steps").stdout == "200"
    assert machine.ssh("test -e /etc/systemd/system/app-restore.service", check=False).status
    # The next upgrade works.
    assert bake("upgrade", *host, folder, timeout=3600).code == 0
