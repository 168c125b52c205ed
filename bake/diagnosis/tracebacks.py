"""Read the journal of a Python program: its lines, and the last exception with its chain.

This module removes control characters, and the prefixes of Packer and journalctl.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from bake.config import contract
from bake.host.terminal import printable

#: The maximum part of a journal to read, from its end: characters, lines, and characters of a line.
MAX_TEXT, MAX_LINES, MAX_LINE = 500_000, 5_000, 1_000
#: The maximum number of lines of an exception's message, and of characters of its first line to show.
MAX_MESSAGE, MAX_SHOWN = 16, 300

#: The prefixes of Packer and journalctl.
PREFIX = re.compile(
    r"(?:==>|   ) (?:qemu|amazon-ebs)[\w.-]{0,40}: ?"
    r"|(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.,+-]{8,24})"
    r" \S{1,64} [^\s:\[]{1,64}(?:\[\d{1,10}\])?: "
)
PRIORITY = re.compile(r"<\d>")
HEADER = "Traceback (most recent call last):"
FRAME = re.compile(r'\s*File "([^"]{1,500})", line (\d{1,9})(?:, in (.{1,200}))?$')
#: The last line of a traceback: a class, which has an upper-case letter or a module, and a message.
EXCEPTION_LINE = re.compile(r"((?:\w{1,100}\.){0,10}(?:<locals>\.)?\w{1,100})(?:: (.*))?$", re.ASCII)
LEVELS = {"DEBUG", "INFO", "NOTE", "NOTICE", "WARNING", "WARN", "ERROR", "CRITICAL", "FATAL"}
LINKS = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
#: Exceptions that end a program, or that uWSGI raises if a visitor disconnects. An earlier exception is the cause.
ENDINGS = {"KeyboardInterrupt", "SystemExit", "GeneratorExit", "BrokenPipeError", "OSError: write error"}
#: Python prints this before the traceback of an exception that it ignores.
IGNORED_PREFIX = "Exception ignored in"
#: The lines that uWSGI prints when it starts, and when a worker cannot load the app.
START, NOT_LOADED = "*** Starting uWSGI", "*** no app loaded. GAME OVER"
#: The lines that uWSGI prints about itself when it starts.
BANNER = re.compile(
    r"\*\*\* (?:Starting|uWSGI is|Operational|Python threads|WARNING)|compiled with|os: |nodename: |machine: "
    r"|clock source|pcre jit|detected |current working|chdir|your |thunder lock|lock engine|uwsgi socket"
    r"|Python (?:version|main)|PEP 405|Set PythonHome|python threads|mapped |spawned |setgid|setuid|dropping|added "
    r"|initialized |WSGI app 0 .{0,200}ready|\[uWSGI\] getting|running on "
)
#: Lines of uWSGI, the loader of ASGI apps, systemd and app-setup that end an exception's message.
SERVER = re.compile(
    r"\*\*\*|--- |unable to load|DAMN|worker \d|Respawned|VACUUM|goodbye|SIG[A-Z]+|\[pid: |app: (?:worker|[A-Z]+) "
    r"|[\w@-]{1,64}\.(?:service|socket): |(?:Start|Stopp)(?:ed|ing) |Failed to start |Scheduled |app-setup|bake: "
)

#: A file of the app on the machine, in the current release or in a new one.
TREE = re.compile(rf"(?:{contract.CURRENT}|{contract.PREVIOUS}|{contract.RELEASES}/[^/]{{1,80}})/source/(.+)")
INSTALLED_FILE = re.compile(r".*/(?:site|dist)-packages/(.+)")


@dataclass(frozen=True)
class Frame:
    """A line of a traceback: its file as Python names it, its number, and its function."""

    file: str
    line: int
    function: str

    @property
    def app_path(self) -> str:
        """Return the file's path in the app's source, or "" for files of libraries, Python and the machine."""
        match = None if INSTALLED_FILE.fullmatch(self.file) else TREE.fullmatch(self.file)
        return match[1] if match else ""

    @property
    def library_path(self) -> str:
        """Return the file's path in the virtualenv, or "" for other files."""
        match = INSTALLED_FILE.fullmatch(self.file)
        return match[1] if match else ""


@dataclass(frozen=True)
class ExceptionSummary:
    """The exception that ended the app: its class, the first line of its message, and its location.

    The location is `file:line` of the deepest frame in the app's source, or else in a library.
    """

    type: str
    message: str
    location: str = ""

    @property
    def text(self) -> str:
        """Return the exception as Python prints it, with its location on a second line."""
        text = f"{self.type}: {self.message}" if self.message else self.type
        return text + (f"\n  at {self.location}" if self.location else "")


def lines_of(log: str) -> list[str]:
    """Return the last lines of a journal, printable and without prefixes."""
    cut = "\n".join(line[:MAX_LINE] for line in log[-MAX_TEXT:].splitlines()[-MAX_LINES:])
    lines = (PREFIX.sub("", line, count=1) for line in printable(cut).splitlines())
    return [PRIORITY.sub("", line, count=1).rstrip() for line in lines]


@dataclass
class Traceback:
    """A traceback: its frames, the class and message of the exception, and its lines with the complete message."""

    frames: list[Frame] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    type: str = ""
    message: str = ""
    is_ignored: bool = False

    @property
    def is_ending(self) -> bool:
        """Return whether the exception only ends a program, or Python ignores it."""
        return self.is_ignored or bool(ENDINGS & {self.type, f"{self.type}: {self.message}"})


def lines_before_the_end(lines: list[str]) -> list[str]:
    """Return the lines from uWSGI's last start to the first worker that could not load the app.

    After that, uWSGI stops the other workers, whose threads may raise other exceptions. If no worker failed, return all
    lines.
    """
    starts = [number for number, line in enumerate(lines) if line.startswith(START)]
    begin = starts[-1] if starts else 0
    end = next((number for number, line in enumerate(lines[begin:], begin) if line.startswith(NOT_LOADED)), len(lines))
    return lines[:end]


def last_chain(lines: Iterable[str]) -> list[Traceback]:
    """Return the tracebacks of the last chain of exceptions, in order. An ending counts only if there is no other."""
    all_chains = chains(lines)
    default = all_chains[0] if all_chains else []
    return next((chain for chain in reversed(all_chains) if not chain[-1].is_ending), default)


def chains(lines: Iterable[str]) -> list[list[Traceback]]:
    """Return the chains of exceptions in a journal, each with its tracebacks in order.

    Lines of other processes may be between those of a traceback.
    """
    all_chains: list[list[Traceback]] = []
    chain: list[Traceback] = []
    block: Traceback | None = None
    is_linked = is_ignored = False
    lines_left = 0
    for line in lines:
        frame = FRAME.match(line)
        # A syntax error in the program itself has no header.
        if HEADER in line or (frame and (block is None or block.type)):
            block = Traceback(is_ignored=is_ignored)
            chain = [*chain, block] if is_linked else [block]
            is_linked, lines_left = False, MAX_MESSAGE
        is_ignored = line.startswith(IGNORED_PREFIX)
        if block is None or not line or HEADER in line:
            continue
        if frame:
            block.frames.append(Frame(frame[1], int(frame[2]), frame[3] or ""))
            block.lines.append(line)
        elif line in LINKS:
            is_linked = bool(block.type)
        elif not block.type:
            exception = None if line[0].isspace() else _exception(line)
            if exception:
                block.type, block.message = exception
                if len(chain) > 1 and all_chains and all_chains[-1][-1] is chain[-2]:
                    all_chains[-1] = chain
                else:
                    all_chains.append(chain)
            if exception or line[0].isspace():
                block.lines.append(line)
        elif not is_linked:
            lines_left -= 1
            if lines_left < 0 or SERVER.match(line) or BANNER.match(line):
                block = None
            else:
                block.lines.append(line)
    return [[traceback for traceback in chain if traceback.type] for chain in all_chains]


def _exception(line: str) -> tuple[str, str] | None:
    """Return the class and the message in the last line of a traceback, or None for another line."""
    match = EXCEPTION_LINE.match(line)
    if not match:
        return None
    name = match[1].rpartition(".")[2]
    is_class = "." in match[1] or (name[:1].isupper() and name not in LEVELS)
    return (match[1], (match[2] or "").strip()) if is_class else None


def summarize(chain: list[Traceback]) -> ExceptionSummary | None:
    """Return the most informative exception of a chain: the last one that is not an ending."""
    tracebacks = [traceback for traceback in chain if not traceback.is_ending] or chain
    if not tracebacks:
        return None
    last_traceback = tracebacks[-1]
    message = last_traceback.message
    if len(message) > MAX_SHOWN:
        message = message[: MAX_SHOWN - 1] + "…"
    app_frames = [frame for traceback in (*tracebacks, last_traceback) for frame in traceback.frames if frame.app_path]
    app_locations = [f"{frame.app_path}:{frame.line}" for frame in app_frames]
    library_locations = [f"{frame.library_path}:{frame.line}" for frame in last_traceback.frames if frame.library_path]
    return ExceptionSummary(last_traceback.type, message, (app_locations or library_locations or [""])[-1])
