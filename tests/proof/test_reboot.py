"""A machine that was rebooted is the same machine, and whole."""

import json
import os

import pytest

from bake.verify import pages, report

#: Who it was before the reboot, as bake/verify/proof.py read it.
BEFORE = json.loads(os.environ["BAKE_BEFORE"])


@pytest.fixture(scope="module")
def settled(host):
    """What systemd says of the machine when it has nothing left to start."""
    return host.run("systemctl is-system-running --wait").stdout.strip()


def test_it_comes_up_whole(settled):
    assert settled == "running"


def test_the_app_answers(settled, healthy):
    assert healthy()


def test_the_front_page_is_the_author_s(settled, crawler):
    judged = crawler(pages.judge_front_page)
    assert not judged.faults, report.table(judged.differences)


def test_it_is_the_same_machine(host):
    assert host.file("/etc/machine-id").content_string.strip() == BEFORE["machine-id"]
    assert host.file("/etc/ssh/ssh_host_ed25519_key.pub").content_string.split()[1] == BEFORE["host key"]
    assert host.run("readlink /srv/app/current").stdout.strip() == BEFORE["release"]


def test_data_is_kept(host):
    assert host.file("/var/lib/app/kept").exists


def test_the_journal_reaches_back(host):
    assert len(host.run("journalctl --list-boots --no-pager -q").stdout.splitlines()) >= 2


def test_the_root_has_grown_with_the_disk(host):
    disk = int(host.run("lsblk -bdno SIZE /dev/vda").stdout)
    root = int(host.run("findmnt -bno SIZE /").stdout)
    assert root > 0.9 * disk
