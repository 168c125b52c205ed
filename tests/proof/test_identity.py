"""Two machines of one image are two machines."""

import json
import os

import pytest

#: Two machines' identities, as bake/verify/proof.py read them.
ONE, OTHER = json.loads(os.environ["BAKE_BEFORE"]), json.loads(os.environ["BAKE_OTHER"])


@pytest.mark.parametrize("what", ["machine-id", "host key", "random seed"])
def test_it_is_the_machine_s_own(what):
    assert len(ONE[what]) >= 32 and len(OTHER[what]) >= 32
    assert ONE[what] != OTHER[what]


def test_the_release_is_the_image_s():
    assert ONE["release"] == OTHER["release"] != ""
