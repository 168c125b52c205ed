"""Which name of an instance is its id, and which is that of an app."""

from __future__ import annotations

import io

import pytest

from bake.aws.instances import inventory, termination
from bake.aws.session import Cloud
from bake.errors import RetireError
from bake.host.progress import Reporter
from bake.host.terminal import Terminal


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("i-0123456789abcdef0", "i-0123456789abcdef0 is not an instance that bake created in eu-central-1"),
        ("i-shop", "i-shop has no instance in eu-central-1"),
    ],
)
def test_an_app_s_name_may_begin_like_an_id(monkeypatch: pytest.MonkeyPatch, name: str, problem: str) -> None:
    monkeypatch.setattr(inventory, "live_instances", lambda cloud: [])
    cloud, report = Cloud(None, "eu-central-1", "down", None), Reporter(Terminal(file=io.StringIO()))
    with pytest.raises(RetireError) as caught:
        termination.down(name, allow_several=False, with_data=False, cloud=cloud, report=report)
    assert caught.value.message == problem
