"""The cure for each failure: a traceback, and the lines of bake.yaml that fix it."""

from __future__ import annotations

import pytest
from cure_texts import (
    EXCLUDED,
    FLASK_TABLES,
    JIT,
    LIBRARY,
    NETWORK,
    SOURCE,
    SQLITE,
    TABLES,
    cure,
    plain,
    secret,
    service,
    trace,
)

from bake.config import loader
from bake.diagnosis.diagnosis import diagnose

OLDER_PYTHON = (
    "A library of the app does not support Python 3.13. Python 3.11 of Debian 12 suits it, or a newer version of the "
    "library does.\nAdd to bake.yaml:  base: debian-12"
)

PROC = "The app reads the machine's figures in /proc, as psutil does.\nAdd to bake.yaml:  sandbox: {allow: [proc]}"
NICE = "The app sets priorities or CPU affinity.\nAdd to bake.yaml:  sandbox: {allow: [nice]}"
BROWSER = "The app starts a browser, which needs its own sandbox.\nAdd to bake.yaml:  sandbox: {allow: [browser]}"


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
            trace(
                "AssertionError: Class <class 'sqlalchemy.sql.elements.SQLCoreOperations'> directly inherits "
                "TypingOnly but has additional attributes {'__firstlineno__', '__static_attributes__'}.",
                f"{LIBRARY}/sqlalchemy/util/langhelpers.py",
            ),
            OLDER_PYTHON,
        ),
        (
            trace(
                "TypeError: ForwardRef._evaluate() missing 1 required keyword-only argument: 'recursive_guard'",
                f"{LIBRARY}/pydantic/typing.py",
            ),
            OLDER_PYTHON,
        ),
        (
            trace(
                "ModuleNotFoundError: No module named 'urllib3.packages.six.moves'", f"{LIBRARY}/urllib3/exceptions.py"
            ),
            OLDER_PYTHON,
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
        (
            trace(
                "kombu.exceptions.VersionMismatch: Redis transport requires redis-py versions 6.1.0 or later. "
                "You have 4.5.4"
            ),
            "kombu, which Celery needs and the app does not pin, requires redis 6.1.0 or later; the app has 4.5.4. "
            "Allow a newer redis, or require a kombu as old as the app's pins, such as kombu<5.4.",
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
            f"{TABLES} {FLASK_TABLES}",
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
        *(
            (
                trace(
                    f"FileNotFoundError: [Errno 2] No such file or directory: '/proc/{name}'",
                    f"{LIBRARY}/psutil/_pslinux.py",
                ),
                PROC,
            )
            for name in ("meminfo", "stat", "net/dev", "sys/kernel/pid_max")
        ),
        (trace("PermissionError: [Errno 1] Operation not permitted", code="os.nice(5)"), NICE),
        (
            trace("PermissionError: [Errno 1] Operation not permitted", code="os.sched_setaffinity(0, {0})"),
            NICE,
        ),
        (
            trace("psutil.AccessDenied: (pid=71)", f"{LIBRARY}/psutil/_pslinux.py", code="cext.setpriority(pid, 5)")
            + trace("PermissionError: [Errno 1] Operation not permitted", code="cext.setpriority(self.pid, value)"),
            NICE,
        ),
        ("Operation not permitted (src/thread.cpp:315)\n", NICE),
        (
            trace("wasmtime._error.WasmtimeError: Permission denied (os error 13)", f"{LIBRARY}/wasmtime/_module.py"),
            JIT,
        ),
        (trace("Exception: Connection closed while reading from the driver"), BROWSER),
        (
            "[71:71:FATAL:zygote_host_impl_linux.cc(128)] No usable sandbox! If you are running on Ubuntu 23.10+\n",
            BROWSER,
        ),
        (
            trace(
                "playwright._impl._errors.TargetClosedError: BrowserType.launch: Target page, context or browser has "
                "been closed"
            ),
            BROWSER,
        ),
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
            "<4>app: GET '/report' took longer than 60 s\n",
            "A request exceeded the time limit `limits.request`.\nAdd to bake.yaml:  limits: {request: 5m}",
        ),
        *(
            (line, "A request exceeded the time limit `limits.request`.\nAdd to bake.yaml:  limits: {request: 5m}")
            for line in (
                "<4>app: all 4 threads of a process took longer than 60 s\n",
                "[2026-11-29 09:00:00 +0000] [1] [CRITICAL] WORKER TIMEOUT (pid:7)\n",
            )
        ),
        (
            'Timeout (0:01:01)!\nThread 0x00007f (most recent call first):\n  File "app.py", line 3 in report\n',
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


def test_a_file_of_a_process_is_no_figure_of_the_machine() -> None:
    assert "proc]" not in cure(trace("FileNotFoundError: [Errno 2] No such file or directory: '/proc/71/stat'"))


def test_a_module_that_is_served_is_of_the_app() -> None:
    log = 'Traceback (most recent call last):\n  File "/usr/lib/app/wsgi.py", line 20, in find\n'
    assert cure(f"{log}ModuleNotFoundError: No module named 'shop'\n").startswith("The release has no module shop.")


def test_a_path_of_a_library_is_not_made_writable() -> None:
    for path in (f"{LIBRARY}/pkg/cache", f"{SOURCE}/vendor/site-packages/pkg/cache"):
        told = cure(trace(f"OSError: [Errno 30] Read-only file system: '{path}'"))
        assert told.startswith(f"The app cannot write {path}.") and "Add to bake.yaml" not in told


@pytest.mark.parametrize(
    "key", ["writable", "packages", "secrets", "env", "check", "limits", "sandbox", "base", "domains"]
)
def test_a_key_to_add_is_one_of_bake_yaml(key: str) -> None:
    assert key in loader.schema()["properties"]


def test_an_app_that_ends_itself_is_quoted() -> None:
    lines = [
        "app: server.secret_key is not changed",
        "Traceback (most recent call last):",
        '  File "/srv/app/current/source/app.py", line 3, in <module>',
        "    sys.exit(1)",
        "SystemExit: 1",
        "During handling of the above exception, another exception occurred:",
        "Traceback (most recent call last):",
        '  File "/usr/lib/app/wsgi.py", line 74, in <module>',
        "    raise ImportError(problem)",
        "ImportError: 1",
    ]
    text = diagnose("\n".join(lines)).text
    assert "The app ended itself. Before, it printed:  app: server.secret_key is not changed" in text
