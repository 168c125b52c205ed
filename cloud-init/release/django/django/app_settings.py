"""Django's settings on a machine: the project's own, and around them what a server needs.

The project stays as `startproject` made it. `django: off` in bake.yaml leaves all of this out.
APP_DJANGO_SETTINGS names the project's module, APP_DOMAINS the names the machine answers to.
"""

import importlib
import os
from pathlib import Path

SOURCE = Path("/srv/app/current/source")
DATA = Path("/var/lib/app")
COLLECTED = "/var/cache/app/static"
TO_THE_JOURNAL = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"journal": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["journal"], "level": "WARNING"},
}


def served(theirs: dict, environ: dict) -> dict:
    """What differs from the project's settings."""
    names = environ.get("APP_DOMAINS", "").split()
    changed = {
        "DEBUG": False,
        # nginx refuses other names where domains are given. What is *.a.example elsewhere is .a.example here.
        "ALLOWED_HOSTS": theirs.get("ALLOWED_HOSTS") or [name.removeprefix("*") for name in names] or ["*"],
        "CSRF_TRUSTED_ORIGINS": [*theirs.get("CSRF_TRUSTED_ORIGINS", []), *(f"https://{name}" for name in names)],
        # nginx sets this header itself: a visitor's own never arrives.
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
        "STATIC_ROOT": COLLECTED,
    }
    if not theirs.get("LOGGING"):
        # With DEBUG off, Django by itself mails errors to admins, and tells nobody where there are none.
        changed["LOGGING"] = TO_THE_JOURNAL
    if environ.get("SECRET_KEY"):
        changed["SECRET_KEY"] = environ["SECRET_KEY"]
    databases = theirs.get("DATABASES", {})
    changed["DATABASES"] = {alias: {**said, "NAME": moved(said)} for alias, said in databases.items()}
    media = theirs.get("MEDIA_ROOT")
    if media and within(media):
        changed["MEDIA_ROOT"] = str(DATA / within(media))
    return changed


def moved(database: dict) -> object:
    """A database's name; of SQLite's file beside the code, its place among the app's data."""
    name = database.get("NAME")
    inside = within(name) if str(database.get("ENGINE", "")).endswith(("sqlite3", "spatialite")) else None
    return str(DATA / inside.name) if inside else name


def within(path: object) -> Path | None:
    """A path relative to the project's folder; None for one outside of it."""
    real = Path(os.path.realpath(SOURCE / str(path)))
    root = Path(os.path.realpath(SOURCE))
    return real.relative_to(root) if real.is_relative_to(root) and real != root else None


if "APP_DJANGO_SETTINGS" in os.environ:
    project = vars(importlib.import_module(os.environ["APP_DJANGO_SETTINGS"]))
    own = {name: value for name, value in project.items() if name.isupper()}
    globals().update(own | served(own, dict(os.environ)))
