"""Check that a machine keeps its identity, its release and its data after a reboot, and is healthy."""

import json
import os

import pytest

from bake.verify import pages, report

#: The machine's identity before the reboot, read by bake/verify/proof.py.
BEFORE = json.loads(os.environ["BAKE_BEFORE"])


@pytest.fixture(scope="module")
def system_state(host):
    """Return the state of systemd after the boot has finished."""
    return host.run("systemctl is-system-running --wait").stdout.strip()


def test_all_units_run_after_a_reboot(system_state):
    assert system_state == "running"


def test_the_app_answers(system_state, healthy):
    assert healthy()


def test_the_front_page_is_the_author_s(system_state, crawler):
    result = crawler(pages.judge_front_page)
    assert not result.faults, report.table(result.differences)


def test_the_machine_keeps_its_identity_and_release(host):
    assert host.file("/etc/machine-id").content_string.strip() == BEFORE["machine-id"]
    assert host.file("/etc/ssh/ssh_host_ed25519_key.pub").content_string.split()[1] == BEFORE["host key"]
    assert host.run("readlink /srv/app/current").stdout.strip() == BEFORE["release"]


def test_data_is_kept(host):
    assert host.file("/var/lib/app/kept").exists


def test_the_journal_contains_the_boot_before(host):
    assert len(host.run("journalctl --list-boots --no-pager -q").stdout.splitlines()) >= 2


def test_the_root_has_grown_with_the_disk(host):
    disk = int(host.run("lsblk -bdno SIZE /dev/vda").stdout)
    root = int(host.run("findmnt -bno SIZE /").stdout)
    assert root > 0.9 * disk
