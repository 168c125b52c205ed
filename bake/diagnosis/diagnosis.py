"""Find the cause of an app's failure in its journal, and the lines of bake.yaml that fix it.

The table CAUSES has one row for each cause. Nothing here reads a file or starts a program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath

from bake.app.detect import DISTRIBUTIONS
from bake.bundle.shared_libraries import PACKAGES
from bake.config import secret_names
from bake.diagnosis.tracebacks import (
    BANNER,
    INSTALLED,
    TREE,
    Frame,
    Raised,
    Traceback,
    before_the_end,
    last_chain,
    lines_of,
    raised,
)
from bake.errors import AppStartError, BakeError, SetupError, UnhealthyError

#: The number of log lines to show on the screen.
SHOWN = 40
#: The maximum number of matches of one pattern to read.
MAX_MATCHES = 20
#: The minimum length in characters of a value to redact. Shorter ones, such as 1 or on, occur in any log.
SHORTEST_VALUE = 4

#: Folders where every app may write, or that never belong to it.
OPEN = re.compile(r"/(?:var/lib/app|var/cache/app|tmp|var/tmp|dev|proc|run|sys)(?:/|$)")


@dataclass(frozen=True)
class Cure:
    """A fix: `advice` in one or two sentences, and the keys to `add` to bake.yaml with their values."""

    advice: str = ""
    add: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """The app's exception and its cures, if there are any. `causes` are the names of the rows that matched."""

    raised: Raised | None
    causes: tuple[str, ...]
    cures: tuple[Cure, ...]

    @property
    def text(self) -> str:
        """The lines to show last: the exception, the advice, and the keys to add to bake.yaml."""
        lines = [self.raised.text] if self.raised else []
        lines += dict.fromkeys(cure.advice for cure in self.cures if cure.advice)
        added: dict[str, object] = {}
        for cure in self.cures:
            added = _merged(added, cure.add)
        if "writable" in added:
            added["writable"] = _outermost(added["writable"])
        keys = [f"{key}: {_flow(value)}" for key, value in added.items()]
        if len(keys) == 1:
            lines.append(f"Add to bake.yaml:  {keys[0]}")
        elif keys:
            lines += ["Add to bake.yaml:", *(f"  {key}" for key in keys)]
        return "\n".join(lines)


def diagnose(log: str) -> Diagnosis:
    """Return the cause of an app's failure from its journal, as journalctl or Packer prints it."""
    chain, evidence = _evidence(log)
    rows = [(cause.name, cure) for cause in CAUSES for cure in cause.cures(evidence)]
    cures = {repr(cure): cure for _, cure in rows}
    return Diagnosis(raised(chain), tuple(dict.fromkeys(name for name, _ in rows)), tuple(cures.values()))


def _evidence(log: str) -> tuple[list[Traceback], Evidence]:
    """Return the last chain of exceptions in a journal, and the evidence to search for causes."""
    lines = lines_of(log)
    chain = last_chain(before_the_end(lines))
    frames = tuple(frame for traceback in chain for frame in traceback.frames)
    return chain, Evidence("\n".join(lines), "\n".join(line for each in chain for line in each.lines), frames)


def needs(log: str) -> str:
    """Return the server that an app could not reach, such as `PostgreSQL at DATABASE_URL`, or "" for other faults."""
    _, evidence = _evidence(log)
    service = _service(evidence) if re.search(UNREACHABLE, evidence.chain) else None
    return f"{service.name} at {service.variable}" if service else ""


def relevant(log: str, count: int = SHOWN) -> str:
    """Return the last lines of a journal for the screen, without the banner of uWSGI."""
    return "\n".join([line for line in lines_of(log) if line and not BANNER.match(line)][-count:])


def redacted(log: str, values: Mapping[str, str]) -> str:
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
    longest = sorted(names, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest)), lambda match: f"[{names[match[0]]}]", log)


def of_setup(reason: str, log: str) -> BakeError:
    """Return the error for a machine whose setup failed. `reason` follows "app-setup failed: " in its `log`."""
    cure, details = diagnose(log).text, relevant(log)
    if "app start failed" in reason:
        way_out = "The last lines of its log are above. Correct the app and try again."
        return AppStartError("The app does not start on the machine", cure or way_out, details)
    if reason.startswith("unhealthy"):
        problem = reason.splitlines()[0].removeprefix("unhealthy: ")
        way_out = "Correct the page, or set another one in bake.yaml: `check: {health: /path}`."
        return UnhealthyError(f"The app starts, but {problem}", f"{way_out}\n{cure}".rstrip(), details)
    hint = cure or "The last lines of the setup's log are above. Correct the cause and try again."
    return SetupError(f"The machine could not be set up: {reason}", hint, details)


def _merged(left: Mapping[str, object], right: Mapping[str, object]) -> dict[str, object]:
    """Merge two parts of bake.yaml. Join lists and mappings without duplicates."""
    both = dict(left)
    for key, value in right.items():
        mine = both.get(key)
        if isinstance(mine, tuple) and isinstance(value, tuple):
            both[key] = tuple(dict.fromkeys((*mine, *value)))
        elif isinstance(mine, Mapping) and isinstance(value, Mapping):
            both[key] = _merged(mine, value)
        else:
            both.setdefault(key, value)
    return both


def _outermost(paths: object) -> tuple[str, ...]:
    """Return the paths that are not inside another one of them."""
    kept = paths if isinstance(paths, tuple) else ()
    return tuple(path for path in kept if not any(str(parent) in kept for parent in PurePosixPath(path).parents))


def _flow(value: object) -> str:
    """Return a value as YAML in one line. `on` needs no quotes, because bake reads every scalar as text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = str(value)
    return text if re.fullmatch(r"[\w./…][\w./…:+-]*(?: [\w./…+=-]+)*", text) else json.dumps(text, ensure_ascii=False)


# The causes.


@dataclass(frozen=True)
class Evidence:
    """The text to search for causes: the whole log, the last chain of exceptions, and its frames."""

    log: str
    chain: str
    frames: tuple[Frame, ...]

    def uses(self, *libraries: str) -> bool:
        """Return whether a frame of the exception is in one of these libraries."""
        return any(frame.library.startswith(libraries) for frame in self.frames)


#: Returns the cure for a match, or None if the match has another cause.
Cures = Callable[[re.Match[str], Evidence], Cure | None]


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
        found = self.pattern.finditer(evidence.log if self.anywhere else evidence.chain)
        for match in islice(found, MAX_MATCHES):
            cure = self.cure(match, evidence)
            if cure:
                yield cure


def always(cure: Cure) -> Cures:
    """Return a function that returns the same cure for each match."""
    return lambda match, evidence: cure


#: In a cure, the placeholder for a value that only the user knows.
UNKNOWN = "…"


def _writable(match: re.Match[str], evidence: Evidence) -> Cure | None:
    path = match[1]
    tree = TREE.fullmatch(path)
    if any(frame.file.endswith("/subprocess.py") for frame in evidence.frames) or OPEN.match(path):
        return None
    name = PurePosixPath(tree[1] if tree else path)
    if name.is_absolute() or INSTALLED.fullmatch(path):
        return Cure(
            f"The app cannot write {path}. It can write to /var/lib/app, and to the folders under `writable`. "
            "Change the setting for this path to a path there."
        )
    if ".." in name.parts or not name.parts or re.search(r"[\s\"'\\;{}$]", str(name)):
        return None
    is_folder = not name.suffix and re.search(r"\b(?:mkdir|makedirs)\b", evidence.chain) is not None
    return Cure(add={"writable": (str(name if is_folder or len(name.parts) == 1 else name.parent),)})


def _database_file(match: re.Match[str], evidence: Evidence) -> Cure | None:
    if HINT.search(evidence.log):
        return None
    return Cure(
        f"SQLite cannot write its file. Replace {UNKNOWN} by the folder of the app that contains it.",
        {"writable": (UNKNOWN,)},
    )


#: In a cure, the reason why a file of the app may be missing.
EXCLUDED = "It may be excluded by .gitignore, .bakeignore or bake's own list; bake prints the excluded files."


def _file(match: re.Match[str], evidence: Evidence) -> Cure | None:
    tree = TREE.fullmatch(match[1])
    name = PurePosixPath(tree[1] if tree else match[1])
    started = any(frame.file.endswith("/subprocess.py") for frame in evidence.frames)
    if started or HINT.search(evidence.log) or name.is_absolute() or not (name.suffix or len(name.parts) > 1):
        return None
    return Cure(
        f"The release has no file {name}. {EXCLUDED} To include it, add the line !/{name} to .bakeignore. Never "
        "include a secret."
    )


#: A line that hints/watch.py prints.
HINT = re.compile(r"app: (\S{1,300}) cannot be written: the app's folder is read-only")

#: Debian packages, by the programs that they provide.
PROGRAMS = {
    "chromium": "chromium", "convert": "imagemagick", "curl": "curl", "dot": "graphviz",
    "exiftool": "libimage-exiftool-perl", "ffmpeg": "ffmpeg", "ffprobe": "ffmpeg", "file": "file", "gcc": "gcc",
    "git": "git", "gpg": "gnupg", "gs": "ghostscript", "identify": "imagemagick", "inkscape": "inkscape",
    "libreoffice": "libreoffice", "magick": "imagemagick", "make": "make", "mysql": "default-mysql-client",
    "mysqldump": "default-mysql-client", "node": "nodejs", "npm": "npm", "pandoc": "pandoc", "pdfinfo": "poppler-utils",
    "pdflatex": "texlive-latex-base", "pdftoppm": "poppler-utils", "pdftotext": "poppler-utils",
    "pg_dump": "postgresql-client", "poppler": "poppler-utils", "psql": "postgresql-client", "qpdf": "qpdf",
    "redis-cli": "redis-tools", "rsvg-convert": "librsvg2-bin", "rsync": "rsync", "soffice": "libreoffice",
    "sqlite3": "sqlite3", "ssh": "openssh-client", "tesseract": "tesseract-ocr", "unzip": "unzip", "wget": "wget",
    "wkhtmltopdf": "wkhtmltopdf", "zip": "zip",
}  # fmt: skip
#: Distributions, by the programs that they provide.
SCRIPTS = {
    "alembic": "alembic", "celery": "celery", "django-admin": "django", "flask": "flask", "gunicorn": "gunicorn",
    "pybabel": "babel", "uvicorn": "uvicorn",
}  # fmt: skip


def _program(match: re.Match[str], evidence: Evidence) -> Cure | None:
    name = next(word for word in match.groups() if word)
    if match.lastgroup == "file" and not any(frame.file.endswith("/subprocess.py") for frame in evidence.frames):
        return None
    if name in SCRIPTS:
        return Cure(f"Add {SCRIPTS[name]} to the app's requirements.")
    package = PROGRAMS.get(name)
    if package:
        return Cure(add={"packages": (package,)})
    return Cure(
        f"The machine has no program {name}. Replace {UNKNOWN} by the Debian package that provides it; "
        f"`apt-file search bin/{name}` finds it.",
        {"packages": (UNKNOWN,)},
    )


def _library(match: re.Match[str], evidence: Evidence) -> Cure:
    library = match[1] or match[2]
    for name, package in PACKAGES.items():
        # cffi also loads names such as libgobject-2.0-0.
        if re.fullmatch(rf"{re.escape(name.partition('.so')[0])}(?:-\d|\.so[\d.]*)?", library):
            before = "/python3.11/" in evidence.log
            return Cure(add={"packages": (package.removesuffix("t64") if before else package,)})
    return Cure(
        f"The machine has no library {library}. Replace {UNKNOWN} by the Debian package that provides it; "
        f"`apt-file search {library}` finds it.",
        {"packages": (UNKNOWN,)},
    )


#: Modules that Python 3.12 and 3.13 no longer have. Python 3.11 of Debian 12 has them.
REMOVED = {
    "aifc", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "crypt", "distutils", "imghdr", "imp",
    "mailcap", "nntplib", "pipes", "smtpd", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib",
}  # fmt: skip


def _module(match: re.Match[str], evidence: Evidence) -> Cure:
    name, top = match[1], match[1].partition(".")[0]
    own = {frame.own.removeprefix("src/").partition("/")[0].removesuffix(".py") for frame in evidence.frames} - {""}
    if top in own or not any(frame.own or frame.library for frame in evidence.frames):
        return Cure(f"The release has no module {name}. {EXCLUDED} Or correct `wsgi` in bake.yaml.")
    if top in REMOVED:
        return Cure(
            f"Python 3.13 no longer has the module {top}. Python 3.11 of Debian 12 has it.", {"base": "debian-12"}
        )
    if top != name and evidence.uses(f"{top}/"):
        return Cure(f"The installed version of {top} has no module {name}. Pin the version that the app needs.")
    if top != name:
        return Cure(
            f"{top} has no module {name}. {EXCLUDED} If {top} is a library, pin the version that the app needs."
        )
    distribution = DISTRIBUTIONS.get(top, top.replace("_", "-"))
    return Cure(f"Add {distribution} to the app's requirements.")


def _variable(match: re.Match[str], evidence: Evidence) -> Cure:
    return variable(next(name for name in match.groups() if name))


def variable(name: str) -> Cure:
    """Return the cure for a missing environment variable."""
    if secret_names.may_be_secret(name):
        advice = "During a bake, a secret has a random value. To set another one, write"
        return Cure(f"{advice} check: {{env: {{{name}: {UNKNOWN}}}}}.", {"secrets": (name,)})
    return Cure(
        f"Replace {UNKNOWN} by the value of {name}. To set a value only for the bake, write "
        f"check: {{env: {{{name}: {UNKNOWN}}}}}.",
        {"env": {name: UNKNOWN}},
    )


def _field(match: re.Match[str], evidence: Evidence) -> Cure | None:
    """Return the cure for a field of pydantic-settings: the variable with the same name in upper case."""
    return variable(match[1].replace(".", "__").upper()) if evidence.uses("pydantic_settings/") else None


@dataclass(frozen=True)
class Service:
    """A server that apps connect to: its name, its port, a pattern for its clients in a traceback, and its variable."""

    name: str
    port: int
    clients: re.Pattern[str]
    variable: str


SERVICES = (
    Service("PostgreSQL", 5432, re.compile(r"psycopg|asyncpg|pg8000"), "DATABASE_URL"),
    Service("MySQL", 3306, re.compile(r"pymysql|MySQLdb|mysql/connector|MySQL server"), "DATABASE_URL"),
    Service("Redis", 6379, re.compile(r"redis/(?:connection|client)|redis\.exceptions"), "REDIS_URL"),
    Service("MongoDB", 27017, re.compile(r"pymongo"), "MONGODB_URI"),
    Service("RabbitMQ", 5672, re.compile(r"amqp[./]|pika[./]"), "BROKER_URL"),
    Service("Memcached", 11211, re.compile(r"pymemcache|pylibmc|memcache\.py"), "MEMCACHED_URL"),
    Service("Elasticsearch", 9200, re.compile(r"elasticsearch|elastic_transport|opensearch"), "ELASTICSEARCH_URL"),
)
#: Messages of programs that cannot reach a server, or cannot resolve its name.
UNREACHABLE = (
    r"Connection refused|Name or service not known|Temporary failure in name resolution|Network is unreachable"
    r"|No route to host|No address associated with hostname|getaddrinfo failed|Can't connect to (?:local )?(?:MySQL )?"
    r"server|Unknown (?:MySQL )?server host|Could not resolve host"
)


def _service(evidence: Evidence) -> Service | None:
    """Return the service that an exception mentions by its port, or else by its client."""
    ports = set(re.findall(r"(?:[\w\])]:|\bport[= ]\"?)(\d{4,5})\b", evidence.chain))
    by_port = next((service for service in SERVICES if str(service.port) in ports), None)
    return by_port or next((service for service in SERVICES if service.clients.search(evidence.chain)), None)


def _unreachable(match: re.Match[str], evidence: Evidence) -> Cure | None:
    service = _service(evidence)
    if service:
        return Cure(
            f"The app connects to {service.name}. The machine does not run it, and the network is closed during a "
            f"bake. Replace {UNKNOWN} by the address of a server for the bake, and {service.variable} by the app's own "
            "variable if it has another name. The address for a machine belongs in /etc/app/secrets.env.",
            {"secrets": (service.variable,), "check": {"network": "on", "env": {service.variable: UNKNOWN}}},
        )
    if re.search(r"\b(?:localhost|127\.0\.0\.1)\b", evidence.chain):
        return Cure("The app connects to a server on its own machine, but the machine does not run one.")
    return Cure("The app uses the network, which is closed during a bake.", {"check": {"network": "on"}})


def _host(match: re.Match[str], evidence: Evidence) -> Cure:
    name = match[1].partition(":")[0]
    public = re.fullmatch(r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,63}", name)
    return Cure(
        f"ALLOWED_HOSTS of the Django project does not contain {match[1]}. The health check uses the first name under "
        "`domains`, so add that name to ALLOWED_HOSTS.",
        {"domains": (name if public else UNKNOWN,)},
    )


def _table(match: re.Match[str], evidence: Evidence) -> Cure:
    django = evidence.uses("django/") or "unapplied migration" in match[0]
    command = "python manage.py migrate --noinput" if django else UNKNOWN
    if not django and evidence.uses("flask"):
        command = "flask db upgrade"
    advice = "The database has no tables yet."
    if command == UNKNOWN:
        advice += f" Replace {UNKNOWN} by the command that creates them."
    return Cure(advice, {"release": (command,)})


#: Libraries that use writable and executable memory.
JIT = ("numba/", "llvmlite/", "cffi/", "_cffi_backend", "jax", "torch/", "lupa", "wasmtime/", "taichi/")
COMPILES = Cure(
    "The app needs writable and executable memory, as just-in-time compilers do.", {"sandbox": {"allow": ("jit",)}}
)


def _permission(match: re.Match[str], evidence: Evidence) -> Cure:
    if evidence.uses(*JIT):
        return COMPILES
    return Cure(
        "The sandbox denies this system call. An app must not change owners, user ids, priorities or the machine. "
        "Remove the call."
    )


def _syntax(match: re.Match[str], evidence: Evidence) -> Cure:
    if "Missing parentheses in call to" in evidence.chain:
        return Cure("The file is written for Python 2, which Debian no longer provides. Port it to Python 3.")
    return Cure(
        "The machine's version of Python cannot run this. Debian 13 has Python 3.13, and Debian 12 has 3.11. Set "
        "`base` to choose."
    )


def _no_app(match: re.Match[str], evidence: Evidence) -> Cure | None:
    if evidence.chain:
        return None
    return Cure(
        f"uWSGI found no app. Replace {UNKNOWN} by the app's module, and app by its callable.",
        {"wsgi": UNKNOWN + ":app"},
    )


def _memory(match: re.Match[str], evidence: Evidence) -> Cure | None:
    # uWSGI kills a worker with the same signal if a request takes too long.
    if "HARAKIRI" in evidence.log and "oom" not in match[0].lower():
        return None
    return Cure(
        "A process used more memory than the machine has. Use a larger machine, or fewer workers.",
        {"limits": {"workers": 1}},
    )


_NAME = r"([A-Za-z_]\w{0,99})"
#: Causes of failures, in the order of their cures in messages.
CAUSES = (
    Cause("read-only path", re.compile(r"Read-only file system: ['\"]([^'\"\n]{1,300})['\"]"), _writable),
    Cause("closed path", re.compile(r"\[Errno 13\] Permission denied: ['\"]([^'\"\n]{1,300})['\"]"), _writable),
    Cause("read-only path, by its hint", HINT, _writable, anywhere=True),
    Cause(
        "read-only database",
        re.compile(r"unable to open database file|attempt to write a readonly database"),
        _database_file,
    ),
    Cause(
        "missing program",
        re.compile(
            r"No such file or directory: ['\"](?P<file>[\w.+-]{1,100})['\"]"
            r"|Bad (git) executable|No (wkhtmltopdf) executable found|(tesseract) is not installed"
            r"|Is (poppler) installed|failed to execute (?:PosixPath\()?['\"](dot)['\"]|Couldn't find (ffmpeg)"
        ),
        _program,
    ),
    Cause("missing file", re.compile(r"No such file or directory: ['\"]([^'\"\n]{1,300})['\"]"), _file),
    Cause(
        "missing program, by its shell",
        re.compile(r"^(?:\S{1,100}: )?(?:line )?\d{1,6}: ([\w.+-]{1,100}): (?:command )?not found$", re.MULTILINE),
        _program,
        anywhere=True,
    ),
    Cause(
        "missing library",
        re.compile(r"\b([\w.+-]{1,100}): cannot open shared object file|failed to find (libmagic)"),
        _library,
    ),
    Cause(
        "missing part",
        re.compile(r"no pq wrapper available"),
        always(Cure("Replace psycopg by psycopg[binary] in the app's requirements.")),
    ),
    Cause("missing module", re.compile(r"No module named ['\"]?([\w.]{1,200})"), _module),
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
        _variable,
    ),
    Cause("missing field", re.compile(r"^(\w[\w.]{0,99})\n  Field required \[type=missing", re.MULTILINE), _field),
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
    Cause("unreachable server", re.compile(UNREACHABLE), _unreachable),
    Cause("refused host", re.compile(r"Invalid HTTP_HOST header: '([^'\n]{1,300})'"), _host, anywhere=True),
    Cause(
        "missing tables",
        re.compile(
            r"no such table: [\w.]{1,100}|relation \"[\w.\"]{1,200}\" does not exist|Table '[\w.]{1,200}' doesn't exist"
        ),
        _table,
    ),
    Cause("migrations", re.compile(r"You have \d{1,6} unapplied migration\(s\)"), _table, anywhere=True),
    Cause(
        "missing static file",
        re.compile(r"Missing staticfiles manifest entry for '([^'\n]{1,300})'"),
        lambda match, evidence: Cure(
            f"collectstatic did not find {match[1]}. Correct the path in the template, or add the file to the app's "
            f"folder. {EXCLUDED}"
        ),
    ),
    Cause(
        "own server",
        re.compile(
            r"\[Errno 98\] Address already in use|^Port \d{1,5} is in use by another program|^ \* Serving Flask app"
            r"|^Starting development server at",
            re.MULTILINE,
        ),
        always(
            Cure('The app starts its own server on import. Move that call under `if __name__ == "__main__":`.')
        ),
        anywhere=True,
    ),
    Cause(
        "just-in-time compiler",
        re.compile(
            r"write\+execute memory|mprotect|ffi_prep_closure|(?i:(?:allocate|allocating) executable memory)"
            r"|LLVM ERROR: [^\n]{0,100}memory"
        ),
        always(COMPILES),
        anywhere=True,
    ),
    Cause(
        "memory of a compiler",
        re.compile(r"MemoryError|Cannot allocate memory"),
        lambda match, evidence: COMPILES if evidence.uses(*JIT) else None,
    ),
    Cause("sandbox", re.compile(r"\[Errno 1\] Operation not permitted"), _permission),
    Cause("syntax", re.compile(r"^(?:SyntaxError|IndentationError|TabError): ", re.MULTILINE), _syntax),
    Cause(
        "Python version",
        re.compile(r"(?i)\brequires? (?:a different python|python ?(?:>=)? ?3)|python 3\.\d{1,2} or (?:later|newer)"),
        _syntax,
    ),
    Cause(
        "out of memory",
        re.compile(r"(?i)\boom-kill\b|OOM killer|Out of memory: Killed|killed by signal 9|status=9/KILL"),
        _memory,
        anywhere=True,
    ),
    Cause(
        "slow request",
        re.compile(r"HARAKIRI"),
        always(Cure("A request exceeded the time limit `limits.request`.", {"limits": {"request": "5m"}})),
        anywhere=True,
    ),
    Cause(
        "slow start",
        re.compile(r"app\.service: start operation timed out"),
        lambda match, evidence: None if evidence.chain else Cure(
            "The app did not finish loading in time. Code that runs on import must not wait or run forever."
        ),
        anywhere=True,
    ),
    Cause(
        "no app",
        re.compile(r"no python application found|no app loaded|callable not found"),
        _no_app,
        anywhere=True,
    ),
)  # fmt: skip
