"""The terminal that people read: no foreign text can steer it.

Consoles of machines, journals and the output of programs hold colours, cursor movements, titles, and whatever an app
prints. A person sees their words alone.
"""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

#: Sequences of ECMA-48: CSI (colours, cursor), strings (OSC titles, DCS and the like) up to their end on the same line,
#: and the short ones. `ESC [` is also one character, U+009B, as are the beginnings of strings.
SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
#: Line ends of other kinds: a carriage return would have a line overwrite itself.
LINE_ENDS = re.compile(r"\r+\n|[\r\x0b\x0c\x85\u2028\u2029]")
#: The control characters of C0 and C1 but for tab and newline, and Unicode's Bidi_Control, which reorders a line.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text without what steers a terminal; newlines and tabs stay."""
    return CONTROLS.sub("", LINE_ENDS.sub("\n", SEQUENCES.sub("", text)))


def one_line(text: str) -> str:
    """Return a text that is printable as one line."""
    return " ".join(printable(text).split())


class Terminal(Console):
    """Standard error as bake prints to it: texts are printable, and shown as they are, without markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"stderr": True, "highlight": False, "markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a text, or a table's cell, once it is printable: rich calls this for each."""
        return super().render_str(printable(text), **options)
