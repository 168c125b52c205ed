"""Print to the terminal without control sequences from other programs.

The consoles of machines, journals and the output of programs contain colours, cursor movements, window titles and
anything that an app prints. bake prints only their text.
"""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

#: ECMA-48 sequences: CSI (colours, cursor), strings (OSC titles, DCS and others) up to their end on the same line,
#: and short sequences. U+009B is `ESC [` as one character; the beginnings of strings have such characters, too.
SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
#: Other line ends. After a carriage return, a line would overwrite itself.
LINE_ENDS = re.compile(r"\r+\n|[\r\x0b\x0c\x85\u2028\u2029]")
#: The control characters of C0 and C1 except tab and newline, and Unicode's Bidi_Control, which reorders a line.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text without control sequences and control characters. Newlines and tabs stay."""
    return CONTROLS.sub("", LINE_ENDS.sub("\n", SEQUENCES.sub("", text)))


def one_line(text: str) -> str:
    """Return the printable text as one line."""
    return " ".join(printable(text).split())


class Terminal(Console):
    """A rich console on standard error that prints only printable text, without markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"stderr": True, "highlight": False, "markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text printable and render it. rich calls this for each text and for each cell of a table."""
        return super().render_str(printable(text), **options)
