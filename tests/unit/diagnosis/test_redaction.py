"""Secret values do not stay in a log."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from bake.diagnosis.redaction import SHORTEST_VALUE, redact
from bake.host import paths


def test_values_of_check_env_are_replaced_by_their_names() -> None:
    values = {
        "SECRET_KEY": "hunter2!", "DATABASE_URL": "postgresql://shop:s3cr%t+@db/shop", "ON": "1", "EMPTY": "",
        "PEM": "-----BEGIN\nfirst line\n", "LONG": "hunter2!-and-more",
    }  # fmt: skip
    log = "key hunter2! hunter2!-and-more 1\npostgresql://shop:s3cr%t+@db/shop\npassword s3cr%t+\nfirst line"
    assert redact(log, values) == "key [SECRET_KEY] [LONG] 1\n[DATABASE_URL]\npassword [DATABASE_URL]\n[PEM]"
    assert redact("a log", {}) == redact("a log", {"ON": "1"}) == "a log"


def test_the_machine_redacts_the_values_that_the_host_does(program: Callable[..., ModuleType]) -> None:
    author = program("author.py", paths.features() / "author-server")
    values = {
        "DATABASE_URL": "postgres://shop:pass word@db.shop.example/shop",
        "PEM": "first line\nsecond line",
        "ON": "1",
    }
    log = "pass word, first line, 1\n" + repr(values)
    assert author.SHORTEST == SHORTEST_VALUE
    assert author.redacted(log, values) == redact(log, values) != log
