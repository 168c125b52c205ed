"""Recognize by its name, or by its value, that an environment variable has a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Words in the names of secrets.
SECRET = re.compile(r"KEY|SECRET|TOKEN|PASS|PWD|CREDENTIAL|SALT")
#: Words in the names of addresses, which may contain a password.
ADDRESS = re.compile(r"DSN|DATABASE|POSTGRES|MYSQL|REDIS|MONGO|BROKER|AMQP")
#: A URL with a password.
PASSWORD = re.compile(r"://[^/@\s:]*:[^/@\s]+@")


def may_be_secret(name: str) -> bool:
    """Return whether a variable of this name usually has a secret value."""
    return bool(SECRET.search(name.upper()) or ADDRESS.search(name.upper()))


def exposed_secrets(env: Mapping[str, str]) -> list[str]:
    """Return the names in `env` whose values look like secrets."""
    return [name for name, value in env.items() if value and (SECRET.search(name.upper()) or PASSWORD.search(value))]
