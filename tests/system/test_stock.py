"""A bake on a cloud image that is not ours: what it lacks is installed in it."""

import hashlib
from pathlib import Path

import imitation
import pytest

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=["debian-13", "debian-12"])
def stock(request, tmp_path_factory):
    """A disk as a provider has it, its root elsewhere than on ours; qcow2."""
    return imitation.make(request.param, tmp_path_factory.mktemp("stock"))


def test_an_app_is_baked_on_it(stock, app, bake):
    folder, write = app
    digest = hashlib.sha512(stock.read_bytes()).hexdigest()
    write("bake.yaml", f"name: on-stock\nbase: {{image: {stock}, sha512: {digest}}}\n")
    called = bake("image", folder, timeout=2400)
    assert called.code == 0, called.stderr
    assert Path(called.stdout.strip()).is_file()


def test_another_digest_is_refused(stock, app, bake):
    folder, write = app
    write("bake.yaml", f"base: {{image: {stock}, sha512: {'0' * 128}}}\n")
    called = bake("image", folder)
    assert called.code == 40
    assert "base.sha512" in called.stderr and called.stdout == ""
