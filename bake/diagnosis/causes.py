"""List the causes of an app's failure: a pattern of the journal for each, and the function that returns its cure.

The table CAUSES has one row for each cause. Nothing here reads a file or starts a program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from bake.diagnosis.cures import (
    BROWSER_CURE,
    EXCLUDED_HINT,
    HINT,
    JIT,
    JIT_CURE,
    NICE_CURE,
    OLDER_PYTHON,
    PROC_CURE,
    Cure,
    Cures,
    Evidence,
    always,
    database_file,
    denied_call,
    missing_field,
    missing_file,
    missing_library,
    missing_module,
    missing_program,
    missing_table,
    missing_variable,
    no_app,
    out_of_memory,
    own_end,
    own_server,
    refused_host,
    unreachable_server,
    variable,
    writable_path,
    wrong_python,
)
from bake.diagnosis.unreachable import UNREACHABLE

#: The maximum number of matches of one pattern to read.
MAX_MATCHES = 20


@dataclass(frozen=True)
class Cause:
    """A row of the table: a pattern, and a function that returns the cure for a match.

    The pattern applies to the exception or, if `anywhere` is set, to the whole log.
    """

    name: str
    pattern: re.Pattern[str]
    cure: Cures
    anywhere: bool = False

    def cures(self, evidence: Evidence) -> Iterator[Cure]:
        """Yield the cures for all matches."""
        matches = self.pattern.finditer(evidence.log if self.anywhere else evidence.chain)
        for match in islice(matches, MAX_MATCHES):
            cure = self.cure(match, evidence)
            if cure:
                yield cure


_NAME = r"([A-Za-z_]\w{0,99})"
#: Causes of failures, in the order of their cures in messages.
CAUSES = (
    Cause("read-only path", re.compile(r"Read-only file system: ['\"]([^'\"\n]{1,300})['\"]"), writable_path),
    Cause("closed path", re.compile(r"\[Errno 13\] Permission denied: ['\"]([^'\"\n]{1,300})['\"]"), writable_path),
    Cause("read-only path, by its hint", HINT, writable_path, anywhere=True),
    Cause(
        "read-only database",
        re.compile(r"unable to open database file|attempt to write a readonly database"),
        database_file,
    ),
    Cause(
        "own end",
        re.compile(
            r"^(\S[^\n]{0,300})\nTraceback \(most recent call last\):\n(?: [^\n]*\n)+SystemExit(?:: \d+)?$",
            re.MULTILINE,
        ),
        own_end,
        anywhere=True,
    ),
    Cause(
        "missing program",
        re.compile(
            r"No such file or directory: ['\"](?P<file>[\w.+-]{1,100})['\"]"
            r"|Bad (git) executable|No (wkhtmltopdf) executable found|(tesseract) is not installed"
            r"|Is (poppler) installed|failed to execute (?:PosixPath\()?['\"](dot)['\"]|Couldn't find (ffmpeg)"
        ),
        missing_program,
    ),
    Cause(
        "figures in /proc",
        # Those that ProcSubset=pid hides. psutil's sensors and other processes are no entries of this list.
        re.compile(
            r"No such file or directory: ['\"]/proc/(?:meminfo|stat|cpuinfo|loadavg|uptime|vmstat|diskstats|swaps|"
            r"partitions|version|filesystems|sys/\w|net/\w)"
        ),
        always(PROC_CURE),
    ),
    Cause("missing file", re.compile(r"No such file or directory: ['\"]([^'\"\n]{1,300})['\"]"), missing_file),
    Cause(
        "missing program, by its shell",
        re.compile(r"^(?:\S{1,100}: )?(?:line )?\d{1,6}: ([\w.+-]{1,100}): (?:command )?not found$", re.MULTILINE),
        missing_program,
        anywhere=True,
    ),
    Cause(
        "missing library",
        re.compile(r"\b([\w.+-]{1,100}): cannot open shared object file|failed to find (libmagic)"),
        missing_library,
    ),
    Cause(
        "missing part",
        re.compile(r"no pq wrapper available"),
        always(Cure("Replace psycopg by psycopg[binary] in the app's requirements.")),
    ),
    Cause(
        "library newer than a pin",
        re.compile(r"Redis transport requires redis-py versions ([\d.]{1,20}) or later\. You have ([\d.]{1,20}\d)"),
        lambda match, evidence: Cure(
            f"kombu, which Celery needs and the app does not pin, requires redis {match[1]} or later; the app has "
            f"{match[2]}. Allow a newer redis, or require a kombu as old as the app's pins, such as kombu<5.4."
        ),
    ),
    Cause(
        "library older than Python",
        re.compile(
            # SQLAlchemy below 2.0.31, pydantic 1, pkg_resources of old setuptools, names that Python 3.12 removed.
            r"directly inherits TypingOnly but has additional attributes"
            r"|ForwardRef\._evaluate\(\) missing 1 required keyword-only argument: 'recursive_guard'"
            r"|module 'pkgutil' has no attribute 'ImpImporter'"
            r"|module 'configparser' has no attribute 'SafeConfigParser'"
            r"|No module named '[\w.]{1,100}\bsix\.moves"
        ),
        always(OLDER_PYTHON),
    ),
    Cause("missing module", re.compile(r"No module named ['\"]?([\w.]{1,200})"), missing_module),
    Cause(
        "other version",
        re.compile(r"cannot import name '(\w{1,100})' from '([\w.]{1,200})' \([^)\n]{0,300}/site-packages/"),
        lambda match, evidence: Cure(
            f"The installed version of {match[2].partition('.')[0]} has no {match[1]}. Pin the version that the app "
            "needs."
        ),
    ),
    Cause(
        "missing variable",
        re.compile(
            rf'File "(?:<frozen os>|[^"\n]{{1,200}}/os\.py)", line \d{{1,9}}, in __getitem__\n'
            rf"(?: [^\n]*\n){{0,3}}KeyError: '{_NAME}'"
            rf"|UndefinedValueError: {_NAME} not found"
            rf"|(?i:environment variable) ['\"]?{_NAME}['\"]? (?:is )?(?:not set|required|missing|not found)"
            rf"|Set the {_NAME} (?i:environment variable)"
            r"|\b([A-Z][A-Z0-9]{0,40}_[A-Z0-9_]{1,99}) (?i:environment variable )?"
            r"(?:(?:is|was) (?:not set|required|missing)|must be set)"
            rf"|Config '{_NAME}' is missing, and has no default"
        ),
        missing_variable,
    ),
    Cause(
        "missing field",
        re.compile(r"^(\w[\w.]{0,99})\n  Field required \[type=missing", re.MULTILINE),
        missing_field,
    ),
    Cause(
        "missing secret key",
        re.compile(r"The SECRET_KEY setting must not be empty|no secret key was set"),
        always(variable("SECRET_KEY")),
    ),
    Cause(
        "missing database address",
        re.compile(r"Either 'SQLALCHEMY_DATABASE_URI' or 'SQLALCHEMY_BINDS' must be set"),
        always(variable("DATABASE_URL")),
    ),
    Cause("unreachable server", re.compile(UNREACHABLE), unreachable_server),
    Cause("refused host", re.compile(r"Invalid HTTP_HOST header: '([^'\n]{1,300})'"), refused_host, anywhere=True),
    Cause(
        "missing tables",
        re.compile(
            r"no such table: [\w.]{1,100}|relation \"[\w.\"]{1,200}\" does not exist|Table '[\w.]{1,200}' doesn't exist"
        ),
        missing_table,
    ),
    Cause("migrations", re.compile(r"You have \d{1,6} unapplied migration\(s\)"), missing_table, anywhere=True),
    Cause(
        "missing static file",
        re.compile(r"Missing staticfiles manifest entry for '([^'\n]{1,300})'"),
        lambda match, evidence: Cure(
            f"collectstatic did not find {match[1]}. Correct the path in the template, or add the file to the app's "
            f"folder. {EXCLUDED_HINT}"
        ),
    ),
    Cause(
        "own server",
        re.compile(
            r"\[Errno 98\] Address already in use|^Port \d{1,5} is in use by another program|^ \* Serving Flask app"
            r"|^Starting development server at",
            re.MULTILINE,
        ),
        own_server,
        anywhere=True,
    ),
    Cause(
        "other port",
        re.compile(r"app: the program listens at port (\d{1,5}) instead of PORT"),
        lambda match, evidence: Cure("The program does not listen at the port in PORT.", {"port": int(match[1])}),
        anywhere=True,
    ),
    Cause(
        "browser",
        re.compile(
            r"No usable sandbox!|Failed to move to new namespace|zygote_host_impl_linux"
            r"|BrowserType\.launch(?:_persistent_context)?: Target page, context or browser has been closed"
            # Playwright's driver is a program of Node, which needs `jit`, too.
            r"|Connection closed while reading from the driver"
        ),
        always(BROWSER_CURE),
        anywhere=True,
    ),
    Cause(
        "priority of a thread",
        # ZeroMQ ends the process.
        re.compile(r"Operation not permitted \(src/thread\.cpp:\d{1,4}\)"),
        always(NICE_CURE),
        anywhere=True,
    ),
    Cause(
        "just-in-time compiler",
        re.compile(
            r"write\+execute memory|mprotect|ffi_prep_closure|(?i:(?:allocate|allocating) executable memory)"
            r"|LLVM ERROR: [^\n]{0,100}memory"
        ),
        always(JIT_CURE),
        anywhere=True,
    ),
    Cause(
        "memory of a compiler",
        re.compile(r"MemoryError|Cannot allocate memory|Permission denied \(os error 13\)"),
        lambda match, evidence: JIT_CURE if evidence.uses(*JIT) else None,
    ),
    Cause("sandbox", re.compile(r"\[Errno 1\] Operation not permitted"), denied_call),
    Cause("syntax", re.compile(r"^(?:SyntaxError|IndentationError|TabError): ", re.MULTILINE), wrong_python),
    Cause(
        "Python version",
        re.compile(r"(?i)\brequires? (?:a different python|python ?(?:>=)? ?3)|python 3\.\d{1,2} or (?:later|newer)"),
        wrong_python,
    ),
    Cause(
        "out of memory",
        re.compile(r"(?i)\boom-kill\b|OOM killer|Out of memory: Killed|killed by signal 9|status=9/KILL"),
        out_of_memory,
        anywhere=True,
    ),
    Cause(
        "slow request",
        re.compile(r"HARAKIRI|WORKER TIMEOUT|app: [^\n]{1,300} took longer than \d|^Timeout \(\d+:\d\d:\d\d\)!", re.M),
        always(Cure("A request exceeded the time limit `limits.request`.", {"limits": {"request": "5m"}})),
        anywhere=True,
    ),
    Cause(
        "slow start",
        re.compile(r"app\.service: start operation timed out"),
        lambda match, evidence: None if evidence.chain or "instead of PORT" in evidence.log else Cure(
            "The app did not finish loading in time. Code that runs on import must not wait or run forever."
        ),
        anywhere=True,
    ),
    Cause(
        "no app",
        re.compile(r"no python application found|no app loaded|callable not found"),
        no_app,
        anywhere=True,
    ),
)  # fmt: skip
