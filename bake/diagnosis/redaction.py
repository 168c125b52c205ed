"""Remove secret values from a log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

#: The minimum length in characters of a value to redact. Shorter ones, such as 1 or on, occur in any log.
SHORTEST_VALUE = 4


def redact(log: str, values: Mapping[str, str]) -> str:
    """Replace each value in a log, each line of a value, and the password in a URL, by `[NAME]`.

    Keep values of fewer than SHORTEST_VALUE characters.
    """
    names: dict[str, str] = {}
    for name, value in values.items():
        passwords = re.findall(r"://[^:/@\s]{0,100}:([^@/\s]{1,200})@", value)
        for part in (value, repr(value)[1:-1], json.dumps(value)[1:-1], *value.splitlines(), *passwords):
            if len(part.strip()) >= SHORTEST_VALUE:
                names.setdefault(part.strip(), name)
    if not names:
        return log
    texts = sorted(names, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, texts)), lambda match: f"[{names[match[0]]}]", log)
