"""Compare the server that a recipe chooses with what the app's source needs."""

from __future__ import annotations

from collections.abc import Iterator

from bake.app import procfile, unguarded_server, wsgi_server
from bake.app.entry import Entry
from bake.app.name_resolution import Reader
from bake.app.scopes import Module
from bake.config.recipe import Recipe
from bake.errors import AsgiAppError


def of(reader: Reader, modules: list[Module], entry: Entry, recipe: Recipe) -> Iterator[str]:
    """Yield notes about settings of the server that have no effect, and warnings about what it does not serve.

    Raises NoAppError for an app that starts a server when it is imported, and AsgiAppError.
    """
    if recipe.server != "uwsgi":
        yield from _ignored_settings(reader, entry, recipe.server)
    if recipe.run:
        if "threads" in recipe.limits.model_fields_set:
            yield "warning: limits.threads has no effect on `run`"
        return
    unguarded_server.require_none(reader, modules)
    if entry.asgi and "threads" in recipe.limits.model_fields_set:
        yield "warning: limits.threads has no effect on an ASGI app"
    if entry.source == procfile.NAME and (unused := procfile.unused_options(reader.folder, entry.target)):
        yield f"not taken from the {procfile.NAME}: `{unused}` of web (the machine's server has its own options)"


def _ignored_settings(reader: Reader, entry: Entry, server: str) -> Iterator[str]:
    """Yield notes about the settings that gunicorn ignores. Raises AsgiAppError for an app that is not a WSGI app."""
    if entry.asgi:
        raise AsgiAppError(f"{entry.target} is an ASGI app, which {server} does not serve", "Remove `server`.")
    if server == "gunicorn":
        yield from wsgi_server.ignored_settings(reader.folder)
