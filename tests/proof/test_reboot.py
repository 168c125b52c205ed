"""A reboot, and the same machine after it."""

import time

import pytest

#: Seconds; an emulated boot takes 40.
PATIENCE = 240


def boot_id(host):
    done = host.run("cat /proc/sys/kernel/random/boot_id")
    return done.stdout.strip() if done.rc == 0 else ""


@pytest.fixture(scope="module")
def identity(host):
    """What a reboot must not change."""
    return host.run("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub; readlink /srv/app/current").stdout


@pytest.fixture(scope="module")
def rebooted(host, identity):
    """Reboot the machine, once, and wait for it."""
    before = boot_id(host)
    host.run("touch /var/lib/app/kept; sync; systemctl reboot")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(2)
        try:
            now = boot_id(host)
        except RuntimeError:
            # testinfra raises when ssh itself fails, as it does while nobody is at home.
            continue
        if now and now != before:
            return host.run("cloud-init status --wait >/dev/null; systemctl is-system-running --wait").stdout.strip()
    raise AssertionError(f"the machine did not come back within {PATIENCE} s")


def test_it_comes_up_whole(rebooted):
    assert rebooted == "running"


def test_the_app_answers(rebooted, healthy):
    assert healthy()


def test_it_is_the_same_machine(rebooted, host, identity):
    assert (
        host.run("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub; readlink /srv/app/current").stdout == identity
    )


def test_data_is_kept(rebooted, host):
    assert host.file("/var/lib/app/kept").exists


def test_the_journal_reaches_back(rebooted, host):
    assert len(host.run("journalctl --list-boots --no-pager -q").stdout.splitlines()) >= 2


def test_the_root_has_grown_with_the_disk(rebooted, host):
    disk = int(host.run("lsblk -bdno SIZE /dev/vda").stdout)
    root = int(host.run("findmnt -bno SIZE /").stdout)
    assert root > 0.9 * disk
