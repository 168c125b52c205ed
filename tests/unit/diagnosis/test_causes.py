"""The table: real journals and their causes, journals without one, and hostile ones."""

from __future__ import annotations

import time

import pytest
from cure_texts import (
    EXCLUDED,
    FLASK_TABLES,
    JOURNALS,
    NETWORK,
    OTHER_TABLES,
    SERVER,
    SQLITE,
    TABLES,
    cure,
    plain,
    secret,
    service,
    trace,
)

from bake.diagnosis.causes import CAUSES
from bake.diagnosis.diagnosis import diagnose


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
            f"The release has no module shop.local. {EXCLUDED} Or correct `wsgi` or `asgi` in bake.yaml.",
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
            f"{TABLES} {FLASK_TABLES}",
        ),
        (
            "sqlalchemy-table",
            "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) no such table: user",
            f"{TABLES} {OTHER_TABLES}",
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
            "The sandbox denies this system call. An app must not change owners, user ids or the machine. "
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
