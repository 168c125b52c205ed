"""Machines with little memory and with a full disk: 1 GB with a large upload, 512 MB while apt upgrades."""

import hashlib
import os
import subprocess
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import EXAMPLE, extended, settled
from test_push import VISITORS, host, visited  # noqa: F401

from bake.verify import proof
from bake.vm import qemu

pytestmark = pytest.mark.long

#: A form that keeps its file, as frameworks do: large ones become a temporary file.
MORE = """
import hashlib
from flask import request

@app.route("/form", methods=["POST"])
def form():
    digest, stream = hashlib.sha256(), request.files["film"].stream
    for chunk in iter(lambda: stream.read(1 << 20), b""):
        digest.update(chunk)
    return digest.hexdigest()
"""
RECIPE = f"""
base: {os.environ.get("BAKE_TEST_BASE", "debian-13")}
limits: {{body: 750M, request: 20m}}
timers:
  hog: {{run: head -c 9G /dev/zero | tail -n 1, when: yearly}}
"""
FILM = 700 << 20
#: Takes memory that cannot be compressed, until the kernel has killed a process.
HOG = """
import os
def kills():
    return int(dict(line.split() for line in open("/proc/vmstat"))["oom_kill"])
before, taken, block = kills(), [], os.urandom(4096) * 1024
while kills() == before:
    taken.append(bytearray(block))
"""
#: What apt does for an upgrade, it does for a reinstallation: libraries that every service uses, a kernel, its
#: initramfs. The timers' own units follow: they look for updates, and put libraries to use.
UPGRADE = """
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
packages=$(dpkg-query -W -f '${Package}\\n' 'linux-image-6*-cloud-amd64' 'libssl3*' libc6 perl-base)
apt-get -q -y install --reinstall $packages
systemctl start apt-daily.service apt-daily-upgrade.service
"""
#: A network that looks into TLS has an authority of its own; this host knows it, the machine does not.
AUTHORITIES = "/usr/local/share/authorities.crt"
#: Prints the releases, uploads and temporary files, and the release that serves.
LEFT = """
cd /; ls -A srv/app/releases var/lib/app-incoming
find tmp var/tmp -xdev ! -path '*/systemd-private-*' | sort
python3 -c 'import json; print(json.load(open("/etc/app/source.json"))["bundle"])'; readlink srv/app/current
"""
USED = "df -B1 --output=used / | tail -n 1"
SETTLED = "while systemctl list-jobs --no-legend | grep -q . ; do sleep 2; done"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example and more, with a line of its own so that no cache answers."""
    text = f"{MORE}\n# {os.urandom(8).hex()}\n"
    return extended(EXAMPLE, tmp_path_factory.mktemp("apps") / "flask-hello", RECIPE, text)


@pytest.fixture(scope="module")
def disk(folder, bake, tmp_path_factory):
    """A larger disk with the app's image, as a cloud makes it."""
    called = bake("image", folder)
    assert called.code == 0, called.stderr
    disk = tmp_path_factory.mktemp("disk") / "disk.qcow2"
    image = Path(called.stdout.strip()).absolute()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", disk, "4G"], check=True)
    return disk


@pytest.fixture(scope="module")
def web():
    """A port of this computer, which leads to the machine's port 80."""
    return qemu.free_port()


@pytest.fixture(scope="module")
def machine(disk, request, web, tmp_path_factory):
    """A machine whose memory in MiB is the fixture's parameter."""
    options = replace(qemu.VmOptions(), memory=request.param, web={80: web})
    with settled(disk, tmp_path_factory.mktemp("small"), proof.UserData(), options) as booted:
        # A new machine installs updates after its app serves.
        booted.ssh(SETTLED, timeout=900)
        yield booted


one_gigabyte = pytest.mark.parametrize("machine", [1024], indirect=True)
half_a_gigabyte = pytest.mark.parametrize("machine", [512], indirect=True)


def killed(machine):
    """The lines of the kernel about processes that it killed."""
    return [line for line in machine.ssh("sudo dmesg").stdout.splitlines() if "Killed process" in line]


def trust(machine):
    """Have apt on the machine trust the authorities that this host trusts."""
    machine.ssh(f"sudo tee {AUTHORITIES} > /dev/null", stdin=Path("/etc/ssl/certs/ca-certificates.crt").read_text())
    line = f'Acquire::https::CAInfo "{AUTHORITIES}";\n'
    machine.ssh("sudo tee /etc/apt/apt.conf.d/99authorities > /dev/null", stdin=line)


def serves(machine):
    """Wait until the site answers, and return the status."""
    ask = "curl -s -o /dev/null -w '%{http_code}' --retry 30 --retry-all-errors --fail http://127.0.0.1/"
    return machine.ssh(ask, check=False, timeout=300).stdout


@one_gigabyte
def test_a_form_of_700_mb_fits_1_gb_of_memory_and_leaves_nothing(machine):
    assert machine.ssh("sudo swapon --noheadings").stdout == ""
    machine.ssh(f"truncate -s {FILM} /var/tmp/film")
    before = int(machine.ssh(USED).stdout)
    with visited(machine, VISITORS) as seen:
        digest = machine.ssh("curl -s -F film=@/var/tmp/film http://127.0.0.1/form", timeout=1200).stdout
    assert digest == hashlib.sha256(bytes(FILM)).hexdigest()
    assert set(seen) == {"200"} and seen["200"] >= 100, seen
    assert killed(machine) == []
    assert int(machine.ssh(USED).stdout) - before < 50 << 20
    assert machine.ssh("truncate -s 800M /var/tmp/film; curl -s -o /dev/null -w '%{http_code}' -F film=@/var/tmp/film "
                       "http://127.0.0.1/form").stdout == "413"  # fmt: skip
    machine.ssh("rm /var/tmp/film")


@one_gigabyte
def test_a_push_that_fails_leaves_nothing_also_on_a_full_disk(machine, host, folder, bake):  # noqa: F811
    app, recipe = folder / "app.py", folder / "bake.yaml"
    whole = app.read_text()

    def left():
        return machine.ssh("sudo sh -s", stdin=LEFT).stdout

    before, used = left(), int(machine.ssh(USED).stdout)

    def push():
        called = bake("push", *host, folder)
        return called.code, called.stderr

    try:
        # A release that does not start.
        app.write_text(f"{whole}\nraise RuntimeError('broken on purpose')\n")
        code, said = push()
        assert code == 43 and "RuntimeError: broken on purpose" in said
        assert left() == before
        # A release whose own step fills the disk.
        app.write_text(f"{whole}\n# another one\n")
        recipe.write_text(f"{RECIPE}release: ['head -c 99G /dev/zero > /var/tmp/full']\n")
        code, said = push()
        assert code == 42 and "No space left on device" in said
        assert left() == before
        assert int(machine.ssh(USED).stdout) - used < 50 << 20
        # A disk that is full before: nothing is copied.
        recipe.write_text(RECIPE)
        free = int(machine.ssh("df -B1 --output=avail / | tail -n 1").stdout)
        machine.ssh(f"sudo fallocate -l {free - (2 << 20)} /var/lib/full")
        code, said = push()
        assert code == 31 and "MB of free space; the release needs" in said
        assert left() == before
        assert serves(machine) == "200"
        machine.ssh("sudo rm /var/lib/full")
        # The same release comes once there is room.
        code, said = push()
        assert code == 0, said
    finally:
        app.write_text(whole)
        recipe.write_text(RECIPE)


@one_gigabyte
def test_a_job_that_takes_all_memory_ends_before_a_worker_of_the_site(machine):
    with visited(machine, VISITORS) as seen:
        machine.ssh("sudo systemctl start app-job@hog", check=False, timeout=900)
    assert machine.ssh("systemctl show --value --property Result app-job@hog").stdout.strip() == "oom-kill"
    lines = killed(machine)
    assert lines and all("oom_score_adj:700" in line for line in lines), lines
    assert set(seen) == {"200"}, seen
    machine.ssh("sudo systemctl reset-failed app-job@hog")


def opened(url, patience=900):
    """Wait until a machine answers to a visitor from outside."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            return urllib.request.urlopen(url, timeout=5).status
        except OSError:
            time.sleep(1)
    return None


@one_gigabyte
def test_an_old_image_answers_to_others_when_its_updates_are_installed(machine, web):
    """unattended-upgrades leaves a stamp. A new image, as this one was, answers before that."""
    stamp = "/var/lib/apt/periodic/upgrade-stamp"
    first = machine.ssh(f"systemctl show --value --property Result app-fresh; ls {stamp}", check=False).stdout
    assert first.split() == ["exec-condition", stamp]
    trust(machine)
    machine.ssh(f"sudo rm {stamp}; sudo touch -d '20 days ago' /var/lib/dpkg/status")
    machine.reboot()
    assert opened(f"http://127.0.0.1:{web}/") == 200
    after = machine.ssh(f"ls {stamp}; systemctl is-active app-fresh; sudo nft list tables", check=False).stdout
    said = machine.ssh("sudo journalctl -q -b -u 'app-fresh*' -u 'apt-daily*' -o short-monotonic").stdout
    assert after.split("\n")[:2] == [stamp, "inactive"] and "fresh" not in after, said
    # apt's own service puts the updates to use after that.
    result = machine.ssh(f"{SETTLED}; systemctl show --value -p Result apt-daily-upgrade", timeout=900).stdout
    assert result == "success\n"


@half_a_gigabyte
def test_512_mb_are_enough_for_an_upgrade_and_a_push_at_once(machine, host, folder, bake, tmp_path):  # noqa: F811
    assert machine.ssh("sudo swapon --noheadings --bytes --show=NAME,SIZE").stdout.split() == [
        "/dev/zram0", str((256 << 20) - 4096)
    ]  # fmt: skip
    checks = ["machine/test_system.py", "machine/test_units.py", "machine/test_work.py"]
    assert proof.run_checks(machine, checks, tmp_path).failures == ()
    machine.ssh("sudo swapoff /dev/zram0")
    ((name, _),) = proof.run_checks(machine, checks[:1], tmp_path).failures
    assert "test_a_small_machine_has_compressed_swap" in name
    machine.ssh("sudo swapon --priority 100 /dev/zram0")
    trust(machine)
    machine.ssh("cat > /tmp/upgrade", stdin=UPGRADE)
    app = folder / "app.py"
    whole, state = app.read_text(), "systemctl show --value --property"
    app.write_text(f"{whole}\n# the release of 512 MB\n")
    # nginx closes idle connections when it executes itself again: these visitors open one each time.
    visitors = VISITORS.replace('"GET", "/"', '"GET", "/", headers={"Connection": "close"}')
    try:
        with visited(machine, visitors) as seen:
            machine.ssh("sudo systemd-run --unit upgrade -p RemainAfterExit=yes sh -eu /tmp/upgrade")
            pushed = bake("push", *host, folder)
            machine.ssh(f"while [ $({state} SubState upgrade) = running ]; do sleep 2; done", timeout=1500)
    finally:
        app.write_text(whole)
    said = machine.ssh("sudo journalctl -q -b -u upgrade -o cat | tail -n 20").stdout
    assert machine.ssh(f"{state} Result upgrade").stdout.strip() == "success", said
    assert pushed.code == 0, pushed.stderr
    assert set(seen) == {"200"} and seen["200"] >= 300, seen
    assert killed(machine) == []


@half_a_gigabyte
def test_the_kernel_kills_the_app_before_nginx_and_sshd(machine):
    """The app's server starts its workers again."""
    masters = "systemctl show --value --property MainPID nginx ssh systemd-journald"
    before = machine.ssh(masters).stdout
    machine.ssh("cat > /tmp/hog.py", stdin=HOG)
    machine.ssh("sudo systemd-run -q --wait -p OOMScoreAdjust=-1000 python3 /tmp/hog.py", timeout=900)
    lines = killed(machine)
    assert lines and all("oom_score_adj:500" in line for line in lines), lines
    assert machine.ssh(masters).stdout == before
    assert serves(machine) == "200"
