"""Record a real terminal session as an SVG picture.

    python docs/record.py docs/_static/render.svg 'bake init hello' 'bake render hello > user-data'

The shell runs each command in a pseudo-terminal, in the current folder. The picture shows the prompt, the command, and
the terminal's content when the command ended: a progress line that was redrawn appears once. For a whole bake:

    python docs/record.py docs/_static/image.svg 'bake image hello'
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

COLUMNS, ROWS = 100, 50
#: Rich's template fetches its font from a CDN. Viewers have a monospaced font of their own.
TEMPLATE = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.S)
#: A control sequence: its parameters and its final letter; or an operating system command; or a single character.
TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b\][^\x07]*\x07|\x1b.|[\s\S]")


def run(command: str) -> str:
    """Run a command in a pseudo-terminal and return everything it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(
        ["sh", "-c", command], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # The other end is closed once the last process has ended.
        while chunk := os.read(ours, 65536):
            output += chunk
    os.close(ours)
    process.wait()
    return output.decode(errors="replace")


def screen(output: str) -> str:
    """Return the lines that a terminal shows after this output, with colours but without movements of the cursor."""
    lines: list[list[str]] = [[]]
    row, column, style = 0, 0, ""
    for match in TOKEN.finditer(output):
        parameters, letter = match[1] or "", match[2] or ""
        token = match[0]
        if letter == "m":
            style = "" if parameters in ("", "0") else style + token
        elif letter == "A":
            row = max(0, row - int(parameters or 1))
        elif letter == "K":
            lines[row] = [] if parameters == "2" else lines[row][:column]
        elif token == "\r":
            column = 0
        elif token == "\t":
            column += 8 - column % 8
        elif token == "\n":
            row += 1
            lines += [[] for _ in range(row + 1 - len(lines))]
        elif not token.startswith("\x1b") and token.isprintable():
            cells = lines[row]
            cells += [" "] * (column + 1 - len(cells))
            cells[column] = f"{style}{token}\x1b[0m" if style else token
            column += 1
    return "\n".join("".join(cells).rstrip() for cells in lines).rstrip()


def main(target: Path, commands: list[str]) -> None:
    """Run the commands and write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command in commands:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")), soft_wrap=False)
        shown = screen(run(command))
        if shown:
            console.print(Text.from_ansi(shown))
    target.write_text(console.export_svg(title="bake", theme=DIMMED_MONOKAI, code_format=TEMPLATE))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python docs/record.py PICTURE.svg COMMAND…")
    main(Path(sys.argv[1]), sys.argv[2:])
