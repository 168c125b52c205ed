"""What ended an app, and its cure: real journals, a row of the table each."""

from __future__ import annotations

import time

import pytest
import yaml
from conftest import REPOSITORY

from bake.config import recipe
from bake.diagnosis.diagnosis import CAUSES, diagnose, of_setup, redacted, relevant
from bake.errors import AppStartError, BakeError, SetupError, UnhealthyError

#: What Python, frameworks and libraries print, with the paths of a machine.
JOURNALS = REPOSITORY / "tests" / "unit" / "journals"
SOURCE = "/srv/app/current/source"
LIBRARY = "/srv/app/current/venv/lib/python3.13/site-packages"


def trace(raised: str, *files: str, code: str = "") -> str:
    """A traceback that goes through these files, with a last line of code."""
    frames = "".join(f'  File "{file}", line 7, in load\n' for file in (f"{SOURCE}/shop/__init__.py", *files))
    return f"Traceback (most recent call last):\n{frames}    {code or 'load()'}\n{raised}\n"


def cure(log: str) -> str:
    """The text to show, without the exception."""
    found = diagnose(log)
    return found.text.removeprefix(found.raised.text if found.raised else "").strip()


def secret(name: str) -> str:
    return (
        "During a bake, a secret has a random value. To set another one, write "
        f"check: {{env: {{{name}: …}}}}.\nAdd to bake.yaml:  secrets: [{name}]"
    )


def plain(name: str) -> str:
    return (
        f"Replace … by the value of {name}. To set a value only for the bake, write check: {{env: {{{name}: …}}}}.\n"
        f"Add to bake.yaml:  env: {{{name}: …}}"
    )


def service(name: str, variable: str) -> str:
    return (
        f"The app connects to {name}. The machine does not run it, and the network is closed during a bake. Replace "
        f"… by the address of a server for the bake, and {variable} by the app's own variable if it has another name. "
        f"The address for a machine belongs in /etc/app/secrets.env.\nAdd to bake.yaml:\n  secrets: [{variable}]\n"
        f"  check: {{network: on, env: {{{variable}: …}}}}"
    )


EXCLUDED = "It may be excluded by .gitignore, .bakeignore or bake's own list; bake prints the excluded files."
TABLES = "The database has no tables yet."
SERVER = 'The app starts its own server on import. Move that call under `if __name__ == "__main__":`.'
NETWORK = "The app uses the network, which is closed during a bake.\nAdd to bake.yaml:  check: {network: on}"
SQLITE = (
    "SQLite cannot write its file. Replace … by the folder of the app that contains it.\n"
    "Add to bake.yaml:  writable: […]"
)
JIT = (
    "The app needs writable and executable memory, as just-in-time compilers do.\n"
    "Add to bake.yaml:  sandbox: {allow: [jit]}"
)


def test_the_first_worker_that_could_not_load_the_app_is_the_cause() -> None:
    # As of whoogle-search: uWSGI ends the other workers, one of which has a thread that then fails.
    started = "*** Starting uWSGI 2.0.28-debian (64bit) on [Sat Nov 28 12:25:59 2026] ***"
    ended = "unable to load app 0 (mountpoint='')\n*** no app loaded. GAME OVER ***\n"
    before = f"{started}\n{trace('ValueError: of the start before')}{ended}"
    first = trace("FileExistsError: [Errno 17] File exists: 'app/static/config'")
    thread = f"Exception in thread Thread-1 (load):\n{trace('ssl.SSLError: unknown error (_ssl.c:3125)')}"
    found = diagnose(f"{before}{started}\n{first}{ended}{trace('KeyboardInterrupt')}{ended}{thread}goodbye to uWSGI.\n")
    assert found.raised is not None and found.raised.text.startswith("FileExistsError: [Errno 17] File exists")


@pytest.mark.parametrize(
    ("name", "first", "cured"),
    [
        (
            "read-only",
            "OSError: [Errno 30] Read-only file system: 'logs'\n  at shop/erofs.py:4",
            "Add to bake.yaml:  writable: [logs]",
        ),
        ("permission", "PermissionError: [Errno 13] Permission denied", "Add to bake.yaml:  writable: [logs]"),
        ("sqlite-file", "sqlite3.OperationalError: unable to open database file\n  at shop/sqlite.py:3", SQLITE),
        ("sqlalchemy-file", "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) unable to open", SQLITE),
        (
            "git",
            "FileNotFoundError: [Errno 2] No such file or directory: 'git'\n  at shop/git.py:3",
            "Add to bake.yaml:  packages: [git]",
        ),
        ("shell", "", "Add to bake.yaml:  packages: [git]"),
        ("library", "OSError: libpq.so.5: cannot open", "Add to bake.yaml:  packages: [libpq5]"),
        (
            "cffi-library",
            "OSError: cannot load library 'pango-1.0-0'",
            "The machine has no library pango-1.0-0. Replace … by the Debian package that provides it; `apt-file "
            "search pango-1.0-0` finds it.\nAdd to bake.yaml:  packages: […]",
        ),
        (
            "module",
            "ModuleNotFoundError: No module named 'PIL'\n  at shop/module.py:1",
            "Add pillow to the app's requirements.",
        ),
        (
            "own-module",
            "ModuleNotFoundError: No module named 'shop.local'\n  at shop/own.py:1",
            f"The release has no module shop.local. {EXCLUDED} Or correct `wsgi` in bake.yaml.",
        ),
        (
            "other-version",
            "ImportError: cannot import name 'url_quote'",
            "The installed version of werkzeug has no url_quote. Pin the version that the app needs.",
        ),
        ("environ", "KeyError: 'STRIPE_API_KEY'\n  at shop/environ.py:2", secret("STRIPE_API_KEY")),
        ("cause", "RuntimeError: the shop is not configured\n  at shop/cause.py:6", plain("SHOP_REGION")),
        ("django-variable", "django.core.exceptions.ImproperlyConfigured: Set the", secret("DJANGO_SECRET_KEY")),
        ("decouple", "decouple.UndefinedValueError: MAIL_SERVER not found.", plain("MAIL_SERVER")),
        ("environs", "environs.exceptions.EnvNotSetError: Environment variable", secret("TWILIO_TOKEN")),
        (
            "pydantic",
            "pydantic_core._pydantic_core.ValidationError: 2 validation errors for Settings\n  at shop/pyd.py:5",
            f"{secret('DATABASE_URL').partition(chr(10))[0]}\n{plain('PAGE_SIZE').partition(chr(10))[0]}\n"
            "Add to bake.yaml:\n  secrets: [DATABASE_URL]\n  env: {PAGE_SIZE: …}",
        ),
        ("flask-session", "RuntimeError: The session is unavailable", secret("SECRET_KEY")),
        ("psycopg2", "psycopg2.OperationalError: connection to server", service("PostgreSQL", "DATABASE_URL")),
        ("psycopg2-host", "psycopg2.OperationalError: could not translate", service("PostgreSQL", "DATABASE_URL")),
        ("psycopg3", "psycopg.OperationalError: connection failed", service("PostgreSQL", "DATABASE_URL")),
        ("pymysql", "pymysql.err.OperationalError: (2003", service("MySQL", "DATABASE_URL")),
        ("redis", "redis.exceptions.ConnectionError: Error 111", service("Redis", "REDIS_URL")),
        ("redis-host", "redis.exceptions.ConnectionError: Error -2", service("Redis", "REDIS_URL")),
        ("mongo", "pymongo.errors.ServerSelectionTimeoutError: localhost", service("MongoDB", "MONGODB_URI")),
        ("kombu", "kombu.exceptions.OperationalError: [Errno 111]", service("RabbitMQ", "BROKER_URL")),
        ("http", "requests.exceptions.ConnectionError", service("Elasticsearch", "ELASTICSEARCH_URL")),
        ("urllib", "urllib.error.URLError: <urlopen error [Errno -2]", NETWORK),
        (
            "django-host",
            "django.core.exceptions.DisallowedHost: Invalid HTTP_HOST header: 'localhost'.",
            "ALLOWED_HOSTS of the Django project does not contain localhost. The health check uses the first name "
            "under `domains`, so add that name to ALLOWED_HOSTS.\nAdd to bake.yaml:  domains: […]",
        ),
        (
            "django-table",
            "django.db.utils.OperationalError: no such table: auth_user",
            f"{TABLES}\nAdd to bake.yaml:  release: [python manage.py migrate --noinput]",
        ),
        (
            "flask-table",
            "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) no such table: user",
            f"{TABLES}\nAdd to bake.yaml:  release: [flask db upgrade]",
        ),
        (
            "sqlalchemy-table",
            "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) no such table: user",
            f"{TABLES} Replace … by the command that creates them.\nAdd to bake.yaml:  release: […]",
        ),
        (
            "django-static",
            "ValueError: Missing staticfiles manifest entry for 'css/site.css'",
            "collectstatic did not find css/site.css. Correct the path in the template, or add the file to the app's "
            f"folder. {EXCLUDED}",
        ),
        ("port", "OSError: [Errno 98] Address already in use\n  at shop/inuse.py:4", SERVER),
        ("flask-port", "", SERVER),
        (
            "sandbox",
            "PermissionError: [Errno 1] Operation not permitted: 'data'\n  at shop/eperm.py:3",
            "The sandbox denies this system call. An app must not change owners, user ids, priorities or the machine. "
            "Remove the call.",
        ),
        (
            "syntax",
            "SyntaxError: Missing parentheses in call to 'print'.",
            "The file is written for Python 2, which Debian no longer provides. Port it to Python 3.",
        ),
    ],
)
def test_a_real_journal_names_the_exception_and_its_cure(name: str, first: str, cured: str) -> None:
    log = (JOURNALS / f"{name}.txt").read_text()
    assert diagnose(log).text.startswith(first)
    assert cure(log) == cured
    # As a bake shows it.
    prefixed = "".join(f"    qemu.machine: {line}\n" for line in log.splitlines())
    assert cure(prefixed) == cured


@pytest.mark.parametrize(
    ("log", "cured"),
    [
        # Paths.
        (
            trace("OSError: [Errno 30] Read-only file system: 'app/static/config'", code="os.makedirs(CONFIG_PATH)"),
            "Add to bake.yaml:  writable: [app/static/config]",
        ),
        (
            trace("OSError: [Errno 30] Read-only file system: './uploads/a.png'"),
            "Add to bake.yaml:  writable: [uploads]",
        ),
        (
            trace(f"OSError: [Errno 30] Read-only file system: '{SOURCE}/site.db'"),
            "Add to bake.yaml:  writable: [site.db]",
        ),
        (trace("sqlite3.OperationalError: attempt to write a readonly database"), SQLITE),
        (
            "app: instance/site.db cannot be written: the app's folder is read-only. To keep it, write into bake.yaml:"
            "  writable: [instance]\n" + trace("sqlite3.OperationalError: unable to open database file"),
            "Add to bake.yaml:  writable: [instance]",
        ),
        (
            trace("OSError: [Errno 30] Read-only file system: '/data'"),
            "The app cannot write /data. It can write to /var/lib/app, and to the folders under `writable`. Change the "
            "setting for this path to a path there.",
        ),
        # Programs.
        (
            trace(
                "FileNotFoundError: [Errno 2] No such file or directory: 'frobnicate'",
                "/usr/lib/python3.13/subprocess.py",
            ),
            "The machine has no program frobnicate. Replace … by the Debian package that provides it; "
            "`apt-file search bin/frobnicate` finds it.\nAdd to bake.yaml:  packages: […]",
        ),
        ("/srv/app/current/settings/jobs/setup: 3: node: not found\n", "Add to bake.yaml:  packages: [nodejs]"),
        ("bash: line 1: pdftotext: command not found\n", "Add to bake.yaml:  packages: [poppler-utils]"),
        ("/srv/app/current/settings/jobs/setup: 3: flask: not found\n", "Add flask to the app's requirements."),
        (trace("ImportError: Bad git executable."), "Add to bake.yaml:  packages: [git]"),
        (
            trace(
                "pytesseract.pytesseract.TesseractNotFoundError: tesseract is not installed or it's not in your PATH. "
                "See README file for more information."
            ),
            "Add to bake.yaml:  packages: [tesseract-ocr]",
        ),
        (
            trace("ImportError: failed to find libmagic.  Check your installation"),
            "Add to bake.yaml:  packages: [libmagic1t64]",
        ),
        (
            trace("ImportError: libGL.so.1: cannot open shared object file: No such file or directory"),
            "Add to bake.yaml:  packages: [libgl1]",
        ),
        (
            trace(
                "OSError: cannot load library 'libgobject-2.0-0': libgobject-2.0-0: cannot open shared object file",
                f"{LIBRARY}/cffi/api.py".replace("3.13", "3.11"),
            ),
            "Add to bake.yaml:  packages: [libglib2.0-0]",
        ),
        # Modules.
        (trace("ModuleNotFoundError: No module named 'flask_login'"), "Add flask-login to the app's requirements."),
        (
            trace("ModuleNotFoundError: No module named 'debug_toolbar'", f"{LIBRARY}/django/apps/config.py"),
            "Add django-debug-toolbar to the app's requirements.",
        ),
        (
            trace("ModuleNotFoundError: No module named 'distutils'", f"{LIBRARY}/old/a.py"),
            "Python 3.13 no longer has the module distutils. Python 3.11 of Debian 12 has it.\n"
            "Add to bake.yaml:  base: debian-12",
        ),
        (
            trace("ModuleNotFoundError: No module named 'flask.ext'", f"{LIBRARY}/flask/app.py"),
            "The installed version of flask has no module flask.ext. Pin the version that the app needs.",
        ),
        (
            trace("ModuleNotFoundError: No module named 'site_shop.settings'", f"{LIBRARY}/django/conf/__init__.py"),
            f"site_shop has no module site_shop.settings. {EXCLUDED} If site_shop is a library, pin the version that "
            "the app needs.",
        ),
        (
            trace(f"FileNotFoundError: [Errno 2] No such file or directory: '{SOURCE}/credentials.json'"),
            f"The release has no file credentials.json. {EXCLUDED} To include it, add the line !/credentials.json to "
            ".bakeignore. Never include a secret.",
        ),
        (
            "app: logs/shop.log cannot be written: the app's folder is read-only. To keep it, write into bake.yaml:"
            "  writable: [logs]\n" + trace("FileNotFoundError: [Errno 2] No such file or directory: 'logs/shop.log'"),
            "Add to bake.yaml:  writable: [logs]",
        ),
        (
            trace("ImportError: no pq wrapper available.\nAttempts made:"),
            "Replace psycopg by psycopg[binary] in the app's requirements.",
        ),
        # Variables.
        (trace("RuntimeError: MAIL_FROM is not set"), plain("MAIL_FROM")),
        (trace("RuntimeError: SITE_URL must be set"), plain("SITE_URL")),
        (
            trace("RuntimeError: Either 'SQLALCHEMY_DATABASE_URI' or 'SQLALCHEMY_BINDS' must be set."),
            secret("DATABASE_URL"),
        ),
        (
            trace("django.core.exceptions.ImproperlyConfigured: The SECRET_KEY setting must not be empty."),
            secret("SECRET_KEY"),
        ),
        # Servers.
        (
            trace(
                "django.db.utils.OperationalError: (2002, \"Can't connect to local server through socket "
                "'/run/mysqld/mysqld.sock' (2)\")",
                f"{LIBRARY}/MySQLdb/connections.py",
            ),
            service("MySQL", "DATABASE_URL"),
        ),
        (
            trace("ConnectionRefusedError: [Errno 111] Connection refused", f"{LIBRARY}/pymemcache/client/base.py"),
            service("Memcached", "MEMCACHED_URL"),
        ),
        (trace("OSError: [Errno 101] Network is unreachable"), NETWORK),
        (trace("socket.gaierror: [Errno -3] Temporary failure in name resolution"), NETWORK),
        (
            trace("ConnectionError: ('localhost', 8125): [Errno 111] Connection refused"),
            "The app connects to a server on its own machine, but the machine does not run one.",
        ),
        # Django.
        (
            "Invalid HTTP_HOST header: 'shop.example'. You may need to add 'shop.example' to ALLOWED_HOSTS.\n",
            "ALLOWED_HOSTS of the Django project does not contain shop.example. The health check uses the first name "
            "under `domains`, so add that name to ALLOWED_HOSTS.\nAdd to bake.yaml:  domains: [shop.example]",
        ),
        (
            "You have 18 unapplied migration(s). Your project may not work properly until you apply the migrations for "
            "app(s): admin, auth.\n",
            f"{TABLES}\nAdd to bake.yaml:  release: [python manage.py migrate --noinput]",
        ),
        (
            trace('psycopg2.errors.UndefinedTable: relation "user" does not exist', f"{LIBRARY}/flask_sqlalchemy/a.py"),
            f"{TABLES}\nAdd to bake.yaml:  release: [flask db upgrade]",
        ),
        # The sandbox.
        (
            trace(
                "MemoryError: Cannot allocate write+execute memory for ffi.callback(). You might be running on a "
                "system that prevents this."
            ),
            JIT,
        ),
        ("LLVM ERROR: Unable to allocate section memory!\n", JIT),
        (trace("OSError: [Errno 1] Operation not permitted", f"{LIBRARY}/llvmlite/binding/ffi.py"), JIT),
        (trace("MemoryError", f"{LIBRARY}/numba/core/codegen.py"), JIT),
        # Python.
        (
            trace("SyntaxError: f-string: expecting '}'"),
            "The machine's version of Python cannot run this. Debian 13 has Python 3.13, and Debian 12 has 3.11. Set "
            "`base` to choose.",
        ),
        (
            trace("RuntimeError: This app requires Python 3.14"),
            "The machine's version of Python cannot run this. Debian 13 has Python 3.13, and Debian 12 has 3.11. Set "
            "`base` to choose.",
        ),
        # uWSGI and systemd.
        (
            "DAMN ! worker 1 (pid: 642) died, killed by signal 9 :( trying respawn ...\n",
            "A process used more memory than the machine has. Use a larger machine, or fewer workers.\n"
            "Add to bake.yaml:  limits: {workers: 1}",
        ),
        (
            "app.service: A process of this unit has been killed by the OOM killer.\n",
            "A process used more memory than the machine has. Use a larger machine, or fewer workers.\n"
            "Add to bake.yaml:  limits: {workers: 1}",
        ),
        (
            "Sat Nov 28 07:21:17 2026 - *** HARAKIRI ON WORKER 1 (pid: 642, try: 1, graceful: no) ***\n"
            "DAMN ! worker 1 (pid: 642) died, killed by signal 9 :( trying respawn ...\n",
            "A request exceeded the time limit `limits.request`.\nAdd to bake.yaml:  limits: {request: 5m}",
        ),
        (
            "unable to load app 0 (mountpoint='') (callable not found or import error)\n"
            "*** no app loaded. GAME OVER ***\n",
            "uWSGI found no app. Replace … by the app's module, and app by its callable.\n"
            "Add to bake.yaml:  wsgi: …:app",
        ),
        (
            "app.service: start operation timed out. Terminating.\n",
            "The app did not finish loading in time. Code that runs on import must not wait or run forever.",
        ),
    ],
)
def test_a_journal_names_its_cure(log: str, cured: str) -> None:
    assert cure(log) == cured


def test_a_module_that_is_served_is_of_the_app() -> None:
    log = 'Traceback (most recent call last):\n  File "/usr/lib/app/wsgi.py", line 20, in find\n'
    assert cure(f"{log}ModuleNotFoundError: No module named 'shop'\n").startswith("The release has no module shop.")


@pytest.mark.parametrize(
    "log",
    [
        "",
        "spawned uWSGI worker 1 (pid: 642, cores: 4)\n/ answers 200\nserving release 3f9c0d173f9c\n",
        trace("ValueError: no such colour: mauve"),
        trace("KeyError: 'database'"),
        # A file, not a program.
        trace("FileNotFoundError: [Errno 2] No such file or directory: 'settings'"),
        # app-setup's own network, which `check` does not close.
        "retry in 2 s: `apt-get -q -o …` failed with 100:\nErr:1 Temporary failure resolving 'debian.example'\n",
        # What every app may write to, where the disk is full.
        trace("PermissionError: [Errno 13] Permission denied: '/tmp/a'"),
        # A program that may not be run.
        trace("PermissionError: [Errno 13] Permission denied: 'bin/tool'", "/usr/lib/python3.13/subprocess.py"),
        trace("OSError: [Errno 30] Read-only file system: '../logs'"),
        trace("MemoryError"),
        "unable to load app 0 (mountpoint='') (callable not found or import error)\n" + trace("ValueError: no"),
    ],
)
def test_other_journals_have_no_cure(log: str) -> None:
    assert diagnose(log).cures == ()


def test_a_path_of_a_library_is_not_made_writable() -> None:
    for path in (f"{LIBRARY}/pkg/cache", f"{SOURCE}/vendor/site-packages/pkg/cache"):
        told = cure(trace(f"OSError: [Errno 30] Read-only file system: '{path}'"))
        assert told.startswith(f"The app cannot write {path}.") and "Add to bake.yaml" not in told


def test_several_cures_are_one_part_of_bake_yaml_without_doubles() -> None:
    hint = (
        "app: {} cannot be written: the app's folder is read-only. To keep it, write into bake.yaml:  writable: [x]\n"
    )
    link = "During handling of the above exception, another exception occurred:\n"
    log = hint.format("instance/a.db") + hint.format("instance/deep/b.db") + "sh: 1: git: not found\n"
    log += trace("OSError: [Errno 30] Read-only file system: 'logs'") + link + (JOURNALS / "psycopg2.txt").read_text()
    found = diagnose(log * 3)
    assert found.causes == (
        "read-only path", "read-only path, by its hint", "missing program, by its shell", "unreachable server",
    )  # fmt: skip
    assert found.text.splitlines()[-5:] == [
        "Add to bake.yaml:",
        "  writable: [logs, instance]",
        "  packages: [git]",
        "  secrets: [DATABASE_URL]",
        "  check: {network: on, env: {DATABASE_URL: …}}",
    ]


@pytest.mark.parametrize(
    "key", ["writable", "packages", "secrets", "env", "check", "limits", "sandbox", "base", "domains"]
)
def test_a_key_to_add_is_one_of_bake_yaml(key: str) -> None:
    assert key in recipe.schema()["properties"]


def test_keys_to_add_are_yaml() -> None:
    texts = [cure(path.read_text()) for path in sorted(JOURNALS.iterdir())]
    for text in texts:
        added = text.partition("Add to bake.yaml:")[2]
        assert not added or isinstance(yaml.safe_load(added.strip("\n ").replace("\n  ", "\n")), dict), text


def test_each_row_has_a_name_of_its_own() -> None:
    assert len({cause.name for cause in CAUSES}) == len(CAUSES) > 20


@pytest.mark.parametrize(
    "line",
    [
        trace("OSError: [Errno 30] Read-only file system: 'logs'"),
        "sh: 1: git: not found\n",
        "\x1b[31mKeyError: 'A'\x90\n",
        "Connection refused port 5432\n",
        "app: a/b cannot be written: the app's folder is read-only\n",
        "    " + "A_" * 490 + "\n",
        "    " + "port 5432 " * 99 + "\n",
        "    " + "a.b " * 240 + "\n",
        "'" * 990 + "\n",
        '  File "/a/os.py", line 1, in __getitem__\n',
        "    " + "1: " * 300 + "\n",
        "    " + "requires python " * 60 + "\n",
    ],
    ids=range(12),
)
def test_a_hostile_journal_takes_no_time(line: str) -> None:
    log = trace("KeyError: 'A'").rpartition("KeyError")[0] + line * (10_000_000 // len(line)) + "KeyError: 'A'\n"
    begun = time.process_time()
    diagnose(log)
    assert time.process_time() - begun < 0.9


def test_escapes_of_an_app_reach_no_terminal() -> None:
    found = diagnose(trace("ValueError: \x1b[2J\x1b]0;owned\x07\x9b31mred\u202e\rgone"))
    assert found.text == "ValueError: red\n  at shop/__init__.py:7"
    assert "\x1b" not in relevant("\x1b[31mred\n") == "red"


def test_the_screen_shows_the_last_lines_without_a_server_s_banner() -> None:
    log = (
        "".join(f"line {number}\n" for number in range(99))
        + "compiled with version: 14.2.0\n*** Starting uWSGI ***\n\n"
    )
    shown = relevant(log).splitlines()
    assert (len(shown), shown[0], shown[-1]) == (40, "line 59", "line 98")


@pytest.mark.parametrize(
    ("reason", "kind", "message"),
    [
        ("app start failed: see `journalctl -u app`", AppStartError, "The app does not start on the machine"),
        ("unhealthy: / answers 500\nmore", UnhealthyError, "The app starts, but / answers 500"),
        ("a step failed", SetupError, "The machine could not be set up: a step failed"),
    ],
)
def test_an_error_of_a_machine_ends_with_the_exception_and_its_cure(
    reason: str, kind: type[BakeError], message: str
) -> None:
    error = of_setup(reason, (JOURNALS / "read-only.txt").read_text())
    assert (type(error), error.message) == (kind, message)
    assert error.hint.endswith(
        "OSError: [Errno 30] Read-only file system: 'logs'\n  at shop/erofs.py:4\nAdd to bake.yaml:  writable: [logs]"
    )
    assert error.details.splitlines()[-1] == "OSError: [Errno 30] Read-only file system: 'logs'"
    assert of_setup(reason, "nothing of note").hint


def test_values_of_check_env_are_replaced_by_their_names() -> None:
    values = {
        "SECRET_KEY": "hunter2!", "DATABASE_URL": "postgresql://shop:s3cr%t+@db/shop", "ON": "1", "EMPTY": "",
        "PEM": "-----BEGIN\nfirst line\n", "LONG": "hunter2!-and-more",
    }  # fmt: skip
    log = "key hunter2! hunter2!-and-more 1\npostgresql://shop:s3cr%t+@db/shop\npassword s3cr%t+\nfirst line"
    assert redacted(log, values) == "key [SECRET_KEY] [LONG] 1\n[DATABASE_URL]\npassword [DATABASE_URL]\n[PEM]"
    assert redacted("a log", {}) == redacted("a log", {"ON": "1"}) == "a log"
