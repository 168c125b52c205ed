"""New releases onto a machine that runs, by `bake push`, with visitors on it all the time."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import AWAIT_BOOT

from bake.vm import qemu

#: Visitors, four of them, who keep their connections open, until /tmp/stop is there. Prints how they were answered.
#: They pause, or an emulated machine would do nothing else.
VISITORS = """
import collections, http.client, json, os, threading, time
seen = collections.Counter()
def visit():
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=60)
    while not os.path.exists("/tmp/stop"):
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            seen[str(answer.status)] += 1
        except (OSError, http.client.HTTPException) as error:
            seen[repr(error)] += 1
            connection.close()
        time.sleep(0.03)
visitors = [threading.Thread(target=visit) for _ in range(4)]
for visitor in visitors: visitor.start()
for visitor in visitors: visitor.join()
print(json.dumps(seen))
"""


@pytest.fixture
def host(machine, tmp_path, monkeypatch):
    """The machine's URL for `bake push`, and options. ssh knows it by a configuration of ours."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    known = f"-o UserKnownHostsFile={tmp_path}/known -o StrictHostKeyChecking=accept-new"
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {known} "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    return f"ssh://debian@127.0.0.1:{machine.port}", "-i", machine.private_key


@contextlib.contextmanager
def visited(machine, program):
    """Have a program visit the machine meanwhile. Yield a dictionary that has its counts of answers at the end."""
    machine.ssh("sudo rm -f /tmp/stop; cat > /tmp/visitors.py", stdin=program)
    argv = qemu.ssh_argv(machine.port, machine.private_key, machine.known_hosts, "python3 /tmp/visitors.py")
    seen: dict[str, int] = {}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as visitors:
        try:
            yield seen
        finally:
            machine.ssh("touch /tmp/stop")
            said, _ = visitors.communicate(timeout=180)
    seen.update(json.loads(said))


@pytest.mark.long
def test_no_visitor_is_turned_away(baked, machine, host, bake, tmp_path):
    folder = tmp_path / "flask-hello"
    shutil.copytree(baked[0], folder)
    app = (folder / "app.py").read_text()
    page = folder / "templates" / "hello.html"

    def serves():
        return machine.ssh("curl -s http://127.0.0.1/").stdout

    def steps():
        return len(machine.ssh("sudo cat /var/lib/app/instance/steps").stdout.splitlines())

    first = machine.ssh("basename $(readlink /srv/app/current)").stdout.strip()
    before = steps()
    pushed = []

    def switch():
        page.write_text("<p>the second version</p>")
        pushed.append(bake("push", *host, folder))
        # By hand, new settings: no release is asked for, and the app has to be exchanged.
        machine.ssh("echo MOOD=good | sudo tee /etc/app/env; sudo systemctl start app-setup", timeout=300)
        pushed.append(bake("push", *host, "--back"))
        if "debian-12" not in machine.ssh("cat /etc/app/source.json").stdout:
            # uWSGI 2.0.21 may hang for a minute here (docs/explanation/decisions/0044-exchange.md).
            machine.ssh("sudo systemctl restart app", timeout=300)

    with visited(machine, VISITORS) as seen:
        switch()
    assert [called.code for called in pushed] == [0, 0], pushed[0].stderr + pushed[-1].stderr
    assert set(seen) == {"200"} and seen["200"] >= 1000, seen
    second = pushed[0].stdout.strip()
    assert second != first and pushed[1].stdout.strip() == first
    # Its steps ran once for each of the three, and its data stayed.
    assert steps() == before + 3
    assert "the second version" not in serves()
    assert bake("push", *host, folder).code == 0
    assert "the second version" in serves()

    # A release that does not start, and one that is not well, are seen by nobody.
    broken = []

    def fail():
        dead = app + "raise SystemExit('broken on purpose')\n"
        ill = app.replace('return Path("instance/steps").read_text()', "1 / 0")
        for text in (dead, ill):
            (folder / "app.py").write_text(text)
            broken.append(bake("push", *host, folder))

    with visited(machine, VISITORS) as seen:
        fail()
    assert [called.code for called in broken] == [43, 44]
    assert "broken on purpose" in broken[0].stderr and "/steps answers 500" in broken[1].stderr
    assert all(called.stdout == "" and "Traceback (most" not in called.stderr.split("error: ")[1] for called in broken)
    assert set(seen) == {"200"}, seen
    asked = json.loads(machine.ssh("cat /etc/app/source.json").stdout)
    assert asked["bundle"] == second


@pytest.mark.long
def test_a_release_is_judged_by_its_steps_and_its_pages(baked, machine, host, bake, tmp_path):
    folder = tmp_path / "flask-hello"
    shutil.copytree(baked[0], folder)

    def answer(path):
        return machine.ssh(f"curl -s http://127.0.0.1{path}").stdout

    # Data is kept; what a release ships beside it is that release's own.
    assert answer("/words") == "of the first release 1"
    (folder / "words" / "list.txt").write_text("of the second release ")
    called = bake("push", *host, folder)
    assert called.code == 0 and "app: not compared" in called.stderr, called.stderr
    second = called.stdout.strip()
    assert answer("/words") == "of the second release 1"
    assert len(machine.ssh("sudo cat /var/lib/app/starts").stdout.splitlines()) >= 2

    # A step that fails leaves the release before serving.
    recipe = (folder / "bake.yaml").read_text()
    (folder / "bake.yaml").write_text(f"{recipe}release: ['echo no such table; exit 3']\n")
    called = bake("push", *host, folder)
    assert called.code == 42 and "no such table" in called.stderr, called.stderr
    assert json.loads(machine.ssh("cat /etc/app/source.json").stdout)["bundle"] == second
    assert answer("/words") == "of the second release 1"

    # A page that fails does not: the release serves, and whoever pushed it hears of it.
    (folder / "bake.yaml").write_text(recipe)
    page = folder / "templates" / "hello.html"
    page.write_text(f"{page.read_text()}<a href=/prices>prices</a>")
    with (folder / "app.py").open("a") as stream:
        stream.write("\n@app.route('/prices')\ndef prices():\n    return str(1 / 0)\n")
    called = bake("push", *host, folder)
    assert called.code == 46 and "1 of its pages fail: /prices" in called.stderr, called.stderr
    assert machine.ssh("basename $(readlink /srv/app/current)").stdout == called.stdout
    assert bake("push", *host, "--back").stdout.strip() == second

    # What is there is what the next boot serves, and it passes every check.
    machine.reboot()
    machine.ssh(AWAIT_BOOT, check=False, timeout=900)
    assert answer("/words") == "of the second release 1"
    checked = bake("check", *host)
    assert checked.code == 0 and "app: not compared" in checked.stderr, checked.stderr


#: Counts a visitor's requests in a session, which a random key signs.
SESSIONS = """
from flask import session
app.secret_key = os.urandom(24)

@app.route("/visits")
def visits():
    session["visits"] = session.get("visits", 0) + 1
    return {"visits": session["visits"], "pid": os.getpid()}
"""
#: A visitor who comes once, and then forty times with the cookie of the first answer. Prints the answers as JSON.
RETURN = """
import concurrent.futures, json, urllib.request
url = "http://127.0.0.1/visits"
cookie = urllib.request.urlopen(url, timeout=60).headers["Set-Cookie"].partition(";")[0]
def ask(number):
    return json.load(urllib.request.urlopen(urllib.request.Request(url, headers={"Cookie": cookie}), timeout=60))
with concurrent.futures.ThreadPoolExecutor(8) as visits:
    print(json.dumps(list(visits.map(ask, range(40)))))
"""


@pytest.mark.long
def test_a_random_key_is_the_same_for_all_workers(baked, machine, host, bake, tmp_path):
    folder = tmp_path / "flask-hello"
    shutil.copytree(baked[0], folder)
    with (folder / "app.py").open("a") as stream:
        stream.write(SESSIONS)
    called = bake("push", *host, folder)
    assert called.code == 0 and "generates a secret key at random" in called.stderr, called.stderr
    answers = json.loads(machine.ssh("python3 -", stdin=RETURN, timeout=300).stdout)
    assert [answer["visits"] for answer in answers] == [2] * 40
    assert len({answer["pid"] for answer in answers}) >= 2


def test_a_machine_of_somebody_else_is_refused(bake, tmp_path, monkeypatch):
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexit 0\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    called = bake("push", "ssh://root@other.example", Path(__file__).parents[2] / "examples" / "flask-hello")
    assert called.code == 42
    assert "other.example does not run a release that bake made" in called.stderr


#: Replaces a library by its copy, as an upgrade does, then puts it to use as apt-daily-upgrade.service does. Prints the
#: programs that still use the old file, and whether the machine asks for a reboot.
UPDATE = """
library=$(readlink -f /usr/lib/x86_64-linux-gnu/libcrypto.so.3)
cp -p $library $library.new
mv $library.new $library
systemctl show --property ExecStopPost apt-daily-upgrade.service | grep -q /srv/app/current/settings/updates || exit
stale() { grep -ls "$library (deleted)" /proc/[0-9]*/maps | sed s/maps/comm/ | xargs -r cat | sort -u | xargs; }
stale
/srv/app/current/settings/updates > /dev/null
stale
test -e /run/systemd/shutdown/scheduled && echo scheduled
shutdown -c
"""


@pytest.mark.long
def test_updates_are_put_to_use_and_no_request_fails(machine):
    """Visitors who keep a connection open may have to ask again, as at a reload of nginx: these open one each time."""
    visitors = VISITORS.replace('"GET", "/"', '"GET", "/", headers={"Connection": "close"}')
    master = "cat /run/nginx.pid; systemctl show --value --property MainPID nginx app"
    before = machine.ssh(master).stdout.split()
    with visited(machine, visitors) as seen:
        done = machine.ssh("sudo sh", stdin=UPDATE, timeout=600, check=False)
    assert set(seen) == {"200"} and seen["200"] >= 100, (seen, done)
    old, new, scheduled = done.stdout.splitlines()
    assert {"nginx", "systemd"} <= set(old.split())
    # The login of this test, which only a reboot in the night ends.
    assert set(new.split()) <= {"sshd", "sshd-session", "sudo"}, new
    assert scheduled == "scheduled"
    after = machine.ssh(master).stdout.split()
    # systemd follows nginx's new master.
    assert after[0] == after[1] != before[0]
    assert machine.ssh("systemctl is-active nginx app ssh").stdout.split() == ["active"] * 3
    assert machine.ssh("systemctl is-system-running").stdout.strip() == "running"
