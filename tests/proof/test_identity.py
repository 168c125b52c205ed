"""Check that two machines of one image have different identities, and the same release."""

import json
import os

import pytest

#: The identities of two machines, read by bake/verify/proof.py.
ONE, OTHER = json.loads(os.environ["BAKE_BEFORE"]), json.loads(os.environ["BAKE_OTHER"])


@pytest.mark.parametrize("key", ["machine-id", "host key", "random seed"])
def test_each_machine_has_its_own_identity(key):
    assert len(ONE[key]) >= 32 and len(OTHER[key]) >= 32
    assert ONE[key] != OTHER[key]


def test_both_machines_have_the_image_s_release():
    assert ONE["release"] == OTHER["release"] != ""
