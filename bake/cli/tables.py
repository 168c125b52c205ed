"""Write rows in columns, for people and for programs such as `awk`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bake.host.terminal import one_line


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows in columns, below a line with the names of the columns. An empty value is a dash."""
    texts = [[*rows[0]], *([one_line(str(value)) or "-" for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in texts)
