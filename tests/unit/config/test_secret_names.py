"""Which environment variables look like secrets."""

from __future__ import annotations

import pytest

from bake.config import secret_names


@pytest.mark.parametrize("name", ["STRIPE_KEY", "api_token", "DB_PASSWORD", "SECRET", "DATABASE_URL", "REDIS_HOST"])
def test_a_name_tells_that_the_value_may_be_secret(name: str) -> None:
    assert secret_names.may_be_secret(name)


@pytest.mark.parametrize("name", ["SITE_NAME", "DEBUG", "TZ", "LANG"])
def test_other_names_have_plain_values(name: str) -> None:
    assert not secret_names.may_be_secret(name)


def test_a_secret_in_env_is_exposed() -> None:
    env = {
        "STRIPE_KEY": "sk_live_x", "DATABASE_URL": "postgres://me:word@db.example/shop", "EMPTY_TOKEN": "",
        "CACHE_URL": "redis://localhost:6379/0", "SITE": "https://a.example/x:y@z", "DEBUG": "1",
    }  # fmt: skip
    assert secret_names.exposed_secrets(env) == ["STRIPE_KEY", "DATABASE_URL"]
