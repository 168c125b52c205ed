"""Django settings on a machine: the project's own, and around them the ones that a server needs.

The project stays as `startproject` made it. `django: off` in bake.yaml leaves all of this out.
APP_DJANGO_SETTINGS names the project's module, APP_DOMAINS the names that the machine answers to. APP_DJANGO_AUTHOR is
there for the author's server, which differs from the project in the place of its data and in answering at its address.
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
    """Return the settings for the app's data and its key, where they differ from the project's."""
    databases = theirs.get("DATABASES", {})
    changed = {"DATABASES": {alias: {**said, "NAME": moved(said)} for alias, said in databases.items()}}
    if environ.get("SECRET_KEY"):
        changed["SECRET_KEY"] = environ["SECRET_KEY"]
    media = theirs.get("MEDIA_ROOT")
    if media and within(media):
        changed["MEDIA_ROOT"] = str(DATA / within(media))
    return changed


def authored(theirs: dict, environ: dict) -> dict:
    """Return the settings of the author's server, where they differ from the project's.

    A project with DEBUG off answers to its domains alone, and may redirect everything to HTTPS.
    """
    hosts = [*theirs.get("ALLOWED_HOSTS", []), "localhost", "127.0.0.1", "[::1]"]
    return {**placed(theirs, environ), "ALLOWED_HOSTS": hosts, "SECURE_SSL_REDIRECT": False}


def served(theirs: dict, environ: dict) -> dict:
    """Return the settings of a server, where they differ from the project's."""
    names = environ.get("APP_DOMAINS", "").split()
    # nginx refuses other names where domains are given, and passes on any name or address where none are.
    hosts = [name.removeprefix("*") for name in names] or ["*"]
    changed = {
        **placed(theirs, environ),
        "DEBUG": False,
        "ALLOWED_HOSTS": [*theirs.get("ALLOWED_HOSTS", []), *hosts],
        "CSRF_TRUSTED_ORIGINS": [*theirs.get("CSRF_TRUSTED_ORIGINS", []), *(f"https://{name}" for name in names)],
        # nginx sets this header itself: a visitor's own never arrives.
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
        # nginx redirects to HTTPS once the certificate is one that browsers trust.
        "SECURE_SSL_REDIRECT": False,
        "STATIC_ROOT": COLLECTED,
        "MIDDLEWARE": ["app_settings.machine", *theirs.get("MIDDLEWARE", [])],
    }
    if not theirs.get("LOGGING"):
        # With DEBUG off, Django by itself mails errors to admins, and tells nobody where there are none.
        changed["LOGGING"] = TO_THE_JOURNAL
    return changed


def moved(database: dict) -> object:
    """Return a database's name; for an SQLite file beside the code, its place among the app's data."""
    name = database.get("NAME")
    inside = within(name) if str(database.get("ENGINE", "")).endswith(("sqlite3", "spatialite")) else None
    return str(DATA / inside.name) if inside else name


def within(path: object) -> Path | None:
    """Return a path relative to the project's folder; None for one outside of it."""
    real = Path(os.path.realpath(SOURCE / str(path)))
    root = Path(os.path.realpath(SOURCE))
    return real.relative_to(root) if real.is_relative_to(root) and real != root else None


def machine(get_response: Callable) -> Callable:
    """Middleware: mark cookies as Secure over HTTPS alone, and serve uploads as the author's server does.

    Browsers drop Secure cookies that come over HTTP: nobody could log in at an address that has no certificate.
    APP_DJANGO_MEDIA: the project serves MEDIA_ROOT at MEDIA_URL in development, which Django does under DEBUG alone.
    """

    def answer(request: object) -> object:
        response = get_response(request)
        if response.status_code == 404 and "APP_DJANGO_MEDIA" in os.environ:
            response = uploaded(request) or response
        for cookie in response.cookies.values():
            cookie["secure"] = request.is_secure()
        return response

    return answer


def uploaded(request: object) -> object:
    """Return the response with the requested file of MEDIA_ROOT; None where the project has a view, or no such file."""
    from django.conf import settings
    from django.http import Http404
    from django.urls import Resolver404, resolve
    from django.views.static import serve

    path, url = request.path_info, settings.MEDIA_URL
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
