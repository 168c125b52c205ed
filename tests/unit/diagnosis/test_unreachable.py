"""Messages about unreachable servers: the host and the machine recognize the same ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType

import pytest

from bake.diagnosis.unreachable import CUT_OFF, UNREACHABLE
from bake.host import paths


def test_the_machine_recognizes_the_messages_that_the_host_does(program: Callable[..., ModuleType]) -> None:
    assert program("steps.py", paths.features() / "steps").UNREACHABLE.pattern == CUT_OFF


@pytest.mark.parametrize(
    ("message", "unreachable", "cut_off"),
    [
        ("psycopg2.OperationalError: connection to server at 192.0.2.1 failed: Connection refused", True, True),
        ("(2003, \"Can't connect to MySQL server on 'db.shop.example'\")", True, True),
        ("[Errno -3] Temporary failure in name resolution", True, True),
        ("PermissionError: [Errno 1] Operation not permitted", False, True),
        ('relation "shop" does not exist', False, False),
    ],
)
def test_an_unreachable_server_is_recognized_by_its_client_s_message(
    message: str, unreachable: bool, cut_off: bool
) -> None:
    assert bool(re.search(UNREACHABLE, message)) is unreachable
    assert bool(re.search(CUT_OFF, message)) is cut_off
