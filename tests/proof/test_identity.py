"""Two machines of one image are two machines."""

import json
import os

import pytest


@pytest.fixture(scope="module")
def other():
    """The other machine's identity, as bake/proof.py read it."""
    return json.loads(os.environ["BAKE_OTHER"])


def test_machine_ids_differ(host, other):
    own = host.file("/etc/machine-id").content_string.strip()
    assert len(own) == 32 and len(other["machine-id"]) == 32
    assert own != other["machine-id"]


def test_host_keys_differ(host, other):
    own = host.file("/etc/ssh/ssh_host_ed25519_key.pub").content_string.split()[1]
    assert own and other["host key"] and own != other["host key"]


def test_random_seeds_differ(host, other):
    own = host.run("sha256sum < /var/lib/systemd/random-seed").stdout.split()[0]
    assert own != other["random seed"]
