"""Foreign text on a terminal: its words are shown, and it steers nothing."""

from __future__ import annotations

import ast
import os
import pty
import re
import sys
from io import StringIO
from pathlib import Path

import pytest
from conftest import REPOSITORY
from rich.table import Table

from bake.host import programs
from bake.host.terminal import Terminal, one_line, printable

#: What steers a terminal, by what it would do there.
STEERING = {
    "colour": "\x1b[1;31m", "clear the screen": "\x1b[2J", "move up": "\x1b[9A", "private mode": "\x1b[?1049h",
    "title": "\x1b]0;a title\x07", "clipboard": "\x1b]52;c;aGVsbG8=\x1b\\", "device control": "\x1bP$q q\x1b\\",
    "reset": "\x1bc", "character set": "\x1b(B", "one character for CSI": "\x9b2J",
    "one character for OSC": "\x9d0;t\x9c",
    "bell": "\x07", "backspace": "\b\b", "shift out": "\x0e", "delete": "\x7f", "nul": "\0",
    "right to left": "\u202e", "isolate": "\u2066", "mark": "\u200f",
}  # fmt: skip


@pytest.mark.parametrize("what", STEERING)
def test_the_words_around_a_sequence_are_all_that_is_left(what: str) -> None:
    assert printable(f"before {STEERING[what]}after") == "before after"


@pytest.mark.parametrize("text", ["a\tb\nc\n", "naïve 漢字 🙂 [bold]x[/bold] :key:", "", "עברית"])
def test_words_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("end", ["\r\n", "\r\r\n", "\r", "\v", "\f", "\x85", "\u2028"])
def test_every_line_end_is_a_newline(end: str) -> None:
    assert printable(f"one{end}two") == "one\ntwo"


def test_a_sequence_without_an_end_hides_no_words() -> None:
    assert printable("\x1b]0;the only\nwords\x1b") == "0;the only\nwords"
    assert printable("\x1b[31") == "31"
    # What is left of one sequence is no part of another.
    assert printable("\x1b\x1b[0m[31mx") == "[31mx"
    assert "\x1b" not in printable("\x1b\0[2Jx")


def test_one_line_is_one_line() -> None:
    assert one_line(" a\r\n\x1b[5;1Hb\t c\n") == "a b c"


def test_a_terminal_shows_what_it_is_given() -> None:
    stream = StringIO()
    terminal = Terminal(file=stream, force_terminal=True, width=60)
    table = Table.grid()
    table.add_row("cell\x1b[2J", "[/red]:key:")
    for shown in (table, "text\x1b[2J [/red]:key:"):
        terminal.print(shown, style="dim", soft_wrap=True)
    # rich's own colours are all that is left of the escapes.
    assert set(re.findall(r"\x1b.*?[A-Za-z]", stream.getvalue())) == {"\x1b[2m", "\x1b[0m"}
    words = re.sub(r"\x1b.*?m", "", stream.getvalue()).split()
    assert words == ["cell[/red]:key:", "text", "[/red]:key:"]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "bake").rglob("*.py")), ids=lambda path: path.stem)
def test_nobody_prints_past_it(path: Path) -> None:
    if path.stem == "terminal":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.module == "rich.console"), f"line {node.lineno}"


#: Shows a machine's console as a bake does: while it boots, and when it fails.
SHOW = """
import sys, time
from bake.cli import main
from bake.errors import BootError
from bake.host.progress import Reporter
console = open(sys.argv[1], encoding="utf-8", errors="replace").read()
with Reporter(main.errors).phase("boot") as phase:
    for line in console.splitlines():
        phase.progress(0.5, line)
        time.sleep(0.15)
    phase.progress(0.9, console)
    time.sleep(0.15)
main._show(BootError("It did not come up", "Look above.", console))
"""


@pytest.mark.parametrize("columns", [40, 100])
def test_a_console_full_of_cursor_moves_leaves_a_terminal_alone(tmp_path: Path, columns: int) -> None:
    console = tmp_path / "console"
    noise = "".join(STEERING.values())
    console.write_text(f"{noise}GRUB [/dev/vda] {noise}\r\n\x1b[10;1H{'long words ' * 30}\n[bold]login:{noise}\n")
    ours, theirs = pty.openpty()
    environment = {"COLUMNS": str(columns), "TERM": "xterm-256color", "PYTHONPATH": str(REPOSITORY)}
    process = programs.start([sys.executable, "-c", SHOW, console], env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:
        # So a terminal's end is told when the last program that wrote to it has gone.
        pass
    finally:
        programs.stop(process)
        os.close(ours)
    assert process.returncode == 0, said.decode()
    text = said.decode()
    # Colours, the cursor hidden and shown, one line up and erased: rich's own.
    moves = set(re.findall(r"\x1b(?:\[[0-?]*[A-Za-ln-z]|[^\[])", text))
    assert moves <= {"\x1b[?25l", "\x1b[?25h", "\x1b[2K", "\x1b[1A"}
    assert not set("\x07\b\x0e\x7f\0\u202e\u2066\u200f\x9b\x9d") & set(text)
    live, _, shown = text.partition("\x1b[?25h")
    plain = [re.sub(r"\x1b\[[0-?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", live)]
    # One line, written again and again, and never wider than the terminal.
    assert live.count("\n") == 1 and max(map(len, plain)) <= columns
    assert (
        "GRUB [/dev/vda]" in shown
        and "login:" in shown
        and "error: It did not come up" in re.sub(r"\x1b\[[0-?]*m", "", shown)
    )
