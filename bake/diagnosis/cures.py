"""Return the lines of bake.yaml that fix a failure, for each cause of the table in causes.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from bake.app.distributions import requirement
from bake.app.removed_modules import REMOVED
from bake.bundle.shared_libraries import PACKAGES
from bake.config import contract, secret_names
from bake.diagnosis.tracebacks import INSTALLED_FILE, TREE, Frame

#: The line with which the machine's launcher starts the app's own server.
LAUNCHER = re.compile(r"^app: .{1,500} starts with PORT=\d", re.MULTILINE)
#: Folders where every app may write, or that never belong to it.
OPEN_FOLDERS = re.compile(r"/(?:var/lib/app|var/cache/app|tmp|var/tmp|dev|proc|run|sys)(?:/|$)")


@dataclass(frozen=True)
class Cure:
    """A fix: `advice` in one or two sentences, and the keys to `add` to bake.yaml with their values."""

    advice: str = ""
    add: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """The text to search for causes: the whole log, the last chain of exceptions, and its frames."""

    log: str
    chain: str
    frames: tuple[Frame, ...]

    def uses(self, *libraries: str) -> bool:
        """Return whether a frame of the exception is in one of these libraries."""
        return any(frame.library_path.startswith(libraries) for frame in self.frames)


#: Returns the cure for a match, or None if the match has another cause.
Cures = Callable[[re.Match[str], Evidence], Cure | None]


def always(cure: Cure) -> Cures:
    """Return a function that returns the same cure for each match."""
    return lambda match, evidence: cure


#: In a cure, the placeholder for a value that only the user knows.
UNKNOWN = "…"


def writable_path(match: re.Match[str], evidence: Evidence) -> Cure | None:
    """Return the cure for a path that the app cannot write, or None if the path is not the app's."""
    path = match[1]
    tree = TREE.fullmatch(path)
    if any(frame.file.endswith("/subprocess.py") for frame in evidence.frames) or OPEN_FOLDERS.match(path):
        return None
    name = PurePosixPath(tree[1] if tree else path)
    if name.is_absolute() or INSTALLED_FILE.fullmatch(path):
        return Cure(
            f"The app cannot write {path}. It can write to {contract.DATA}, and to the folders under `writable`. "
            "Change the setting for this path to a path there."
        )
    if ".." in name.parts or not name.parts or re.search(r"[\s\"'\\;{}$]", str(name)):
        return None
    is_folder = not name.suffix and re.search(r"\b(?:mkdir|makedirs)\b", evidence.chain) is not None
    return Cure(add={"writable": (str(name if is_folder or len(name.parts) == 1 else name.parent),)})


def database_file(match: re.Match[str], evidence: Evidence) -> Cure | None:
    """Return the cure for an SQLite file that the app cannot write, unless a hint names its path."""
    if HINT.search(evidence.log):
        return None
    return Cure(
        f"SQLite cannot write its file. Replace {UNKNOWN} by the folder of the app that contains it.",
        {"writable": (UNKNOWN,)},
    )


#: In a cure, the reason why a file of the app may be missing.
EXCLUDED_HINT = "It may be excluded by .gitignore, .bakeignore or bake's own list; bake prints the excluded files."


def missing_file(match: re.Match[str], evidence: Evidence) -> Cure | None:
    """Return the cure for a file that the release lacks, or None for a path outside the app's folder."""
    tree = TREE.fullmatch(match[1])
    name = PurePosixPath(tree[1] if tree else match[1])
    is_subprocess = any(frame.file.endswith("/subprocess.py") for frame in evidence.frames)
    if is_subprocess or HINT.search(evidence.log) or name.is_absolute() or not (name.suffix or len(name.parts) > 1):
        return None
    return Cure(
        f"The release has no file {name}. {EXCLUDED_HINT} To include it, add the line !/{name} to .bakeignore. Never "
        "include a secret."
    )


#: A line that read-only-hints/hooks/watch.py prints.
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


def missing_program(match: re.Match[str], evidence: Evidence) -> Cure | None:
    """Return the cure for a program that the machine lacks: its Debian package or its distribution."""
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


def missing_library(match: re.Match[str], evidence: Evidence) -> Cure:
    """Return the cure for a shared library that the machine lacks."""
    library = match[1] or match[2]
    for name, package in PACKAGES.items():
        # cffi also loads names such as libgobject-2.0-0.
        if re.fullmatch(rf"{re.escape(name.partition('.so')[0])}(?:-\d|\.so[\d.]*)?", library):
            is_debian_12 = "/python3.11/" in evidence.log
            return Cure(add={"packages": (package.removesuffix("t64") if is_debian_12 else package,)})
    return Cure(
        f"The machine has no library {library}. Replace {UNKNOWN} by the Debian package that provides it; "
        f"`apt-file search {library}` finds it.",
        {"packages": (UNKNOWN,)},
    )


#: The cure for a library that was published before the newest Python, and does not work with it.
OLDER_PYTHON = Cure(
    "A library of the app does not support Python 3.13. Python 3.11 of Debian 12 suits it, or a newer version of the "
    "library does.",
    {"base": "debian-12"},
)


def missing_module(match: re.Match[str], evidence: Evidence) -> Cure | None:
    """Return the cure for a Python module that the release lacks."""
    name, top = match[1], match[1].partition(".")[0]
    if ".six.moves" in name:
        # OLDER_PYTHON is the cure. The module is part of an old copy of six, and Python 3.12 no longer imports it.
        return None
    app_paths = [frame.app_path.removeprefix("src/") for frame in evidence.frames if frame.app_path]
    app_modules = {path.partition("/")[0].removesuffix(".py") for path in app_paths} - {""}
    if top in app_modules or not any(frame.app_path or frame.library_path for frame in evidence.frames):
        return Cure(f"The release has no module {name}. {EXCLUDED_HINT} Or correct `wsgi` or `asgi` in bake.yaml.")
    if top in REMOVED:
        return Cure(
            f"Python 3.13 no longer has the module {top}. Python 3.11 of Debian 12 has it.", {"base": "debian-12"}
        )
    if top != name and evidence.uses(f"{top}/"):
        return Cure(f"The installed version of {top} has no module {name}. Pin the version that the app needs.")
    if top != name:
        return Cure(
            f"{top} has no module {name}. {EXCLUDED_HINT} If {top} is a library, pin the version that the app needs."
        )
    package = requirement(top) or f"the package that contains the module {top}"
    return Cure(f"Add {package} to the app's requirements.")


def missing_variable(match: re.Match[str], evidence: Evidence) -> Cure:
    """Return the cure for the missing environment variable that a message names."""
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


def missing_field(match: re.Match[str], evidence: Evidence) -> Cure | None:
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


def service_of(evidence: Evidence) -> Service | None:
    """Return the service that an exception mentions by its port, or else by its client."""
    ports = set(re.findall(r"(?:[\w\])]:|\bport[= ]\"?)(\d{4,5})\b", evidence.chain))
    by_port = next((service for service in SERVICES if str(service.port) in ports), None)
    return by_port or next((service for service in SERVICES if service.clients.search(evidence.chain)), None)


def unreachable_server(match: re.Match[str], evidence: Evidence) -> Cure | None:
    """Return the cure for an app that cannot reach a server."""
    service = service_of(evidence)
    if service:
        return Cure(
            f"The app connects to {service.name}. The machine does not run it, and the network is closed during a "
            f"bake. Replace {UNKNOWN} by the address of a server for the bake, and {service.variable} by the app's own "
            f"variable if it has another name. The address for a machine belongs in {contract.SECRETS}.",
            {"secrets": (service.variable,), "check": {"network": "on", "env": {service.variable: UNKNOWN}}},
        )
    if re.search(r"\b(?:localhost|127\.0\.0\.1)\b", evidence.chain):
        return Cure("The app connects to a server on its own machine, but the machine does not run one.")
    return Cure("The app uses the network, which is closed during a bake.", {"check": {"network": "on"}})


def refused_host(match: re.Match[str], evidence: Evidence) -> Cure:
    """Return the cure for a host name that a Django project refuses."""
    name = match[1].partition(":")[0]
    is_public = re.fullmatch(r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,63}", name)
    return Cure(
        f"ALLOWED_HOSTS of the Django project does not contain {match[1]}. The health check uses the first name under "
        "`domains`, so add that name to ALLOWED_HOSTS.",
        {"domains": (name if is_public else UNKNOWN,)},
    )


def missing_table(match: re.Match[str], evidence: Evidence) -> Cure:
    """Return the cure for a database without tables: the command that migrates it."""
    django = evidence.uses("django/") or "unapplied migration" in match[0]
    advice = "The database has no tables yet."
    if django:
        return Cure(advice, {"release": ("python manage.py migrate --noinput",)})
    examples = "`flask db upgrade`, `flask init-db`" if evidence.uses("flask") else "`alembic upgrade head`"
    advice += (
        f" Replace {UNKNOWN} by the command that creates them, such as {examples} or `python create_db.py`. It runs "
        "with each release. If bake finds the command, it prints a line that runs it once."
    )
    return Cure(advice, {"release": (UNKNOWN,)})


#: Libraries that use writable and executable memory.
JIT = ("numba/", "llvmlite/", "cffi/", "_cffi_backend", "jax", "torch/", "lupa", "wasmtime/", "taichi/")
JIT_CURE = Cure(
    "The app needs writable and executable memory, as just-in-time compilers do.", {"sandbox": {"allow": ("jit",)}}
)


PROC_CURE = Cure("The app reads the machine's figures in /proc, as psutil does.", {"sandbox": {"allow": ("proc",)}})
BROWSER_CURE = Cure("The app starts a browser, which needs its own sandbox.", {"sandbox": {"allow": ("browser",)}})
NICE_CURE = Cure("The app sets priorities or CPU affinity.", {"sandbox": {"allow": ("nice",)}})
#: Functions of os and psutil that set them.
NICE = re.compile(
    r"\b(?:nice|setpriority|sched_setaffinity|sched_setscheduler|sched_setparam|cpu_affinity|proc_ioprio_set"
    r"|proc_cpu_affinity_set)\("
)


def denied_call(match: re.Match[str], evidence: Evidence) -> Cure:
    """Return the cure for a system call that the sandbox denies."""
    if evidence.uses(*JIT):
        return JIT_CURE
    if NICE.search(evidence.chain):
        return NICE_CURE
    return Cure(
        "The sandbox denies this system call. An app must not change owners, user ids or the machine. Remove the call."
    )


def wrong_python(match: re.Match[str], evidence: Evidence) -> Cure:
    """Return the cure for source code that the machine's version of Python cannot run."""
    if "Missing parentheses in call to" in evidence.chain:
        return Cure("The file is written for Python 2, which Debian no longer provides. Port it to Python 3.")
    return Cure(
        "The machine's version of Python cannot run this. Debian 13 has Python 3.13, and Debian 12 has 3.11. Set "
        "`base` to choose."
    )


def own_server(match: re.Match[str], evidence: Evidence) -> Cure | None:
    """Return the cure for an app that starts a server when it is imported, or None if the server is the app itself."""
    if LAUNCHER.search(evidence.log):
        return None
    return Cure('The app starts its own server on import. Move that call under `if __name__ == "__main__":`.')


def own_end(match: re.Match[str], evidence: Evidence) -> Cure:
    """Return the line that an app printed before it ended itself: sys.exit has a status, but no reason."""
    return Cure(f"The app ended itself. Before, it printed:  {match[1]}")


def no_app(match: re.Match[str], evidence: Evidence) -> Cure | None:
    """Return the cure for a module without an app, unless an exception explains it."""
    if evidence.chain:
        return None
    return Cure(
        f"uWSGI found no app. Replace {UNKNOWN} by the app's module, and app by its callable.",
        {"wsgi": UNKNOWN + ":app"},
    )


def out_of_memory(match: re.Match[str], evidence: Evidence) -> Cure | None:
    """Return the cure for a killed process, or None if uWSGI killed it because a request took too long."""
    # uWSGI kills a worker with the same signal if a request takes too long.
    if "HARAKIRI" in evidence.log and "oom" not in match[0].lower():
        return None
    return Cure(
        "A process used more memory than the machine has. Use a larger machine, or fewer workers.",
        {"limits": {"workers": 1}},
    )
