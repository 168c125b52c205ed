"""Settings that a machine of an image gets when it is launched, or later by hand."""

import time

import pytest
import yaml
from conftest import AWAIT_BOOT

from bake.verify import proof
from bake.vm import qemu

#: Looks for a text wherever the app's user can read, as that user; the app's own process keeps it in its environment.
SEARCH = """
grep -rsl --exclude-dir=proc --exclude-dir=sys --binary-files=text %s / 2>/dev/null
"""


@pytest.fixture
def launched(baked, tmp_path):
    """Launch the baked image with user-data; stopped at the end."""
    booted: list[qemu.Machine] = []

    def launch(user_data):
        work = tmp_path / f"vm-{len(booted)}"
        key = tmp_path / "key"
        if not key.exists():
            qemu.make_key(key, "case")
        booted.append(proof.start(baked[1], work, key, proof.UserData(user_data)))
        booted[-1].await_ssh()
        return booted[-1]

    yield launch
    for machine in booted:
        machine.stop()


def as_the_app(machine, script):
    return machine.ssh("sudo setpriv --reuid=app --regid=app --clear-groups sh", stdin=script, check=False, timeout=300)


@pytest.mark.long
def test_a_machine_waits_for_its_secrets_and_tells_nobody(baked, launched, bake):
    called = bake("render", baked[0], "--launch", "--domain", "shop.example", "--env", "MOOD=good $HOME")
    assert called.code == 0 and len(called.stdout) < 1000, called.stderr
    machine = launched(called.stdout)
    assert machine.ssh(AWAIT_BOOT, check=False, timeout=900).status == 1

    def ask(path="/"):
        return machine.ssh(f"curl -s -H 'Host: shop.example' http://127.0.0.1{path}", check=False).stdout

    assert "This site waits for its settings." in ask()
    said = machine.ssh("systemctl status app-setup --no-pager", check=False).stdout
    assert "missing secrets: SECRET_KEY, SPARE_KEY" in said
    assert "this site waits for its settings" in machine.console.read_text(errors="replace")
    secret = "a-secret-of-mine with \"quotes\" $HOME and 'more'"
    for name in ("SECRET_KEY", "SPARE_KEY"):
        machine.ssh(f"sudo app-secret {name}", stdin=f"{secret}\n")
    machine.ssh("sudo systemctl start app-setup", timeout=300)
    assert ask("/steps")
    environment = machine.ssh("sudo sh -c 'cat /proc/$(systemctl show --value -p MainPID app)/environ'").stdout
    assert f"SECRET_KEY={secret}\0" in environment and "MOOD=good $HOME\0" in environment
    # Another name is another's: no answer.
    assert machine.ssh("curl -s http://127.0.0.1/", check=False).status in (52, 56)
    assert machine.ssh("sudo stat -c '%U %a' /etc/app/secrets.env").stdout == "root 600\n"
    assert as_the_app(machine, SEARCH % "a-secret-of-mine").stdout == ""
    assert "a-secret-of-mine" not in machine.ssh("sudo journalctl --namespace=* -q --no-pager").stdout


@pytest.mark.long
def test_secrets_in_the_document(baked, launched, bake):
    values = {"SECRET_KEY": "told-at-launch-1", "SPARE_KEY": "told-at-launch-2"}
    called = bake("render", baked[0], "--launch", "--with-secrets", **values)
    assert called.code == 0 and "contains the values of the secrets" in called.stderr
    rows = {row["path"]: row for row in yaml.safe_load(called.stdout)["write_files"]}
    assert rows["/etc/app/secrets.env"]["permissions"] == "0600"
    assert "told-at-launch" not in called.stderr
    machine = launched(called.stdout)
    assert machine.ssh(AWAIT_BOOT, check=False, timeout=900).status == 0
    assert as_the_app(machine, SEARCH % "told-at-launch").stdout == ""
    logs = machine.ssh("sudo journalctl --namespace=* -q --no-pager; sudo cat /var/log/cloud-init*").stdout
    assert "told-at-launch" not in logs
    # By hand, and one command: another setting.
    machine.ssh("echo MOOD=new | sudo tee /etc/app/env; sudo systemctl start app-setup", timeout=300)
    environment = machine.ssh("sudo sh -c 'cat /proc/$(systemctl show --value -p MainPID app)/environ'").stdout
    assert "MOOD=new\0" in environment
    deadline = time.monotonic() + 30
    while machine.ssh("curl -s http://127.0.0.1/steps").stdout == "" and time.monotonic() < deadline:
        time.sleep(1)
    assert machine.ssh("curl -s http://127.0.0.1/steps").stdout
