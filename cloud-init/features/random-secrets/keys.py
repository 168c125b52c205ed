"""Generate the secrets that each machine has for itself, such as the key that signs sessions."""

import re
import secrets
from pathlib import Path

from step import command, say, write

SECRETS = Path("/etc/app/secrets.env")
#: Files that may set them: a bake or a check, a launch's references, and /etc/app.
GIVEN = Path("/run/app-check/env"), Path("/run/app/secrets.env"), Path("/run/app/given.env")


def fetch(recipe: dict) -> None:
    """Fetch random values for the recipe's `random_secrets` that nothing sets, and keep them in SECRETS."""
    settings = "\n".join(path.read_text() for path in GIVEN if path.exists())
    names = recipe["random_secrets"]
    # As for `secrets` in steps.py, an empty value is none.
    missing = [name for name in names if not re.search(rf'^{name}[ \t]*=(?!["\']*[ \t]*$)', settings, re.MULTILINE)]
    if missing:
        text = SECRETS.read_text() if SECRETS.exists() else ""
        write(SECRETS, "".join([text, *(f"\n{name}={secrets.token_urlsafe(32)}\n" for name in missing)]), 0o600)
        listed = ", ".join(missing)
        say(f"generated {listed} in {SECRETS}")
        command("systemctl", "reload-or-restart", "app-configure.service")
