"""Add the settings that a server needs to those of the Django project.

The project needs no change. `django: off` in bake.yaml turns this off.
APP_DJANGO_SETTINGS names the project's module, and APP_DOMAINS the names that the machine answers to.
APP_DJANGO_AUTHOR is set for the author's server, which gets only the settings that it needs on this machine.
"""

import importlib
import os
from collections.abc import Callable
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


def placed(theirs: dict, environ: dict) -> dict:
    """Return the settings for the app's data and its secret key that differ from the project's."""
    databases = theirs.get("DATABASES", {})
    changed = {"DATABASES": {alias: {**database, "NAME": moved(database)} for alias, database in databases.items()}}
    if environ.get("SECRET_KEY"):
        changed["SECRET_KEY"] = environ["SECRET_KEY"]
    media = theirs.get("MEDIA_ROOT")
    if media and within(media):
        changed["MEDIA_ROOT"] = str(DATA / within(media))  # type: ignore[assignment,operator]
    return changed


def authored(theirs: dict, environ: dict) -> dict:
    """Return the settings of the author's server that differ from the project's.

    A project with DEBUG off answers only to its domains, may redirect everything to HTTPS, and may look up the names of
    its static files among the collected ones.
    """
    hosts = [*theirs.get("ALLOWED_HOSTS", []), "localhost", "127.0.0.1", "[::1]"]
    changed = {"ALLOWED_HOSTS": hosts, "SECURE_SSL_REDIRECT": False, "STATIC_ROOT": COLLECTED}
    return {**placed(theirs, environ), **changed}


def served(theirs: dict, environ: dict) -> dict:
    """Return the settings of the machine's server that differ from the project's."""
    names = environ.get("APP_DOMAINS", "").split()
    # With domains, nginx refuses other names. Without, it passes on any name or address.
    hosts = [name.removeprefix("*") for name in names] or ["*"]
    changed = {
        **placed(theirs, environ),
        "DEBUG": False,
        "ALLOWED_HOSTS": [*theirs.get("ALLOWED_HOSTS", []), *hosts],
        "CSRF_TRUSTED_ORIGINS": [*theirs.get("CSRF_TRUSTED_ORIGINS", []), *(f"https://{name}" for name in names)],
        # nginx sets this header itself, so visitors cannot forge it.
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
        # nginx redirects to HTTPS as soon as browsers trust the certificate.
        "SECURE_SSL_REDIRECT": False,
        "STATIC_ROOT": COLLECTED,
        "MIDDLEWARE": ["app_settings.machine", *theirs.get("MIDDLEWARE", [])],
    }
    if not theirs.get("LOGGING"):
        # With DEBUG off, Django mails errors to ADMINS by default. Without ADMINS, it reports them nowhere.
        changed["LOGGING"] = TO_THE_JOURNAL
    return changed


def moved(database: dict) -> object:
    """Return the NAME of a database; for an SQLite file in the project's folder, its path among the app's data."""
    name = database.get("NAME")
    inside = within(name) if str(database.get("ENGINE", "")).endswith(("sqlite3", "spatialite")) else None
    return str(DATA / inside.name) if inside else name


def within(path: object) -> Path | None:
    """Return a path relative to the project's folder; None for one outside of it."""
    real = Path(os.path.realpath(SOURCE / str(path)))
    root = Path(os.path.realpath(SOURCE))
    return real.relative_to(root) if real.is_relative_to(root) and real != root else None


def machine(get_response: Callable) -> Callable:
    """Return a middleware that marks cookies as Secure only over HTTPS, and serves uploads as the author's server does.

    Browsers drop Secure cookies over HTTP, so users could not log in at an address without a certificate. If
    APP_DJANGO_MEDIA is set, the project serves MEDIA_ROOT at MEDIA_URL, which Django does only under DEBUG.
    """

    def answer(request: object) -> object:
        response = get_response(request)
        if response.status_code == 404 and "APP_DJANGO_MEDIA" in os.environ:
            response = uploaded(request) or response
        for cookie in response.cookies.values():
            cookie["secure"] = request.is_secure()  # type: ignore[attr-defined]
        return response

    return answer


def uploaded(request: object) -> object:
    """Return the response with the requested file of MEDIA_ROOT; None if a view has this path or no file exists."""
    from django.conf import settings
    from django.http import Http404
    from django.urls import Resolver404, resolve
    from django.views.static import serve

    path, url = request.path_info, settings.MEDIA_URL  # type: ignore[attr-defined]
    if len(url) > 1 and path.startswith(url):
        try:
            resolve(path)
        except Resolver404:
            try:
                return serve(request, path[len(url) :], settings.MEDIA_ROOT)
            except Http404:
                pass
    return None


if "APP_DJANGO_SETTINGS" in os.environ:
    project = vars(importlib.import_module(os.environ["APP_DJANGO_SETTINGS"]))
    own = {name: value for name, value in project.items() if name.isupper()}
    around = authored if "APP_DJANGO_AUTHOR" in os.environ else served
    globals().update(own | around(own, dict(os.environ)))
