"""Generate the secrets that each machine has for itself, such as the key that signs sessions."""

import re
import secrets
from pathlib import Path

from step import say, write

SECRETS = Path("/etc/app/secrets.env")
#: Files that may set them: a bake or a check, a launch's references, and /etc/app.
GIVEN = Path("/run/app-check/env"), Path("/etc/app/secrets.aws"), Path("/run/app/given.env")


def generate(recipe: dict) -> bool:
    """Write the recipe's random secrets that nothing sets into SECRETS, and return whether there are any."""
    given = "\n".join(path.read_text() for path in GIVEN if path.exists())
    missing = [name for name in recipe["random_secrets"] if not re.search(rf"^{name}[ \t]*=", given, re.MULTILINE)]
    if missing:
        text = SECRETS.read_text() if SECRETS.exists() else ""
        write(SECRETS, "".join([text, *(f"\n{name}={secrets.token_urlsafe(32)}\n" for name in missing)]), 0o600)
        names = ", ".join(missing)
        say(f"generated {names} in {SECRETS}")
    return bool(missing)
