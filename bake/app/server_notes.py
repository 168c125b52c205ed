"""Compare the server that a recipe chooses with what the app's source needs."""

from __future__ import annotations

from collections.abc import Iterator

from bake.app import procfile, unguarded_server, wsgi_server
from bake.app.entry import Entry
from bake.app.frameworks import WEBSOCKETS
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
    yield from _asgi_notes(modules, recipe) if entry.asgi else _websocket_notes(modules, recipe)
    if entry.source == procfile.NAME and (unused := procfile.unused_options(reader.folder, entry.target)):
        yield f"not taken from the {procfile.NAME}: `{unused}` of web (the machine's server has its own options)"


def _websocket_notes(modules: list[Module], recipe: Recipe) -> list[str]:
    """Return a warning for an app that speaks WebSocket, with the keys that long polling needs."""
    users = [(module, names) for module in modules if (names := module.imported_packages & WEBSOCKETS)]
    if not users:
        return []
    module, names = users[0]
    cure = "" if recipe.limits.workers == 1 else ", which needs  limits: {workers: 1}"
    return [
        f"warning: {module.path} imports {min(names)}, and bake does not serve WebSockets; clients of Socket.IO use "
        f"long polling instead{cure}"
    ]


def _ignored_settings(reader: Reader, entry: Entry, server: str) -> Iterator[str]:
    """Yield notes about the settings that gunicorn ignores. Raises AsgiAppError for an app that is not a WSGI app."""
    if entry.asgi:
        raise AsgiAppError(f"{entry.target} is an ASGI app, which {server} does not serve", "Remove `server`.")
    if server == "gunicorn":
        yield from wsgi_server.ignored_settings(reader.folder)


def _asgi_notes(modules: list[Module], recipe: Recipe) -> Iterator[str]:
    """Yield warnings about keys that do not suit an ASGI app."""
    if "threads" in recipe.limits.model_fields_set:
        yield "warning: limits.threads has no effect on an ASGI app"
    users = [module for module in modules if "socketio" in module.imported_packages]
    if users and recipe.limits.workers != 1:
        yield f"warning: {users[0].path} imports socketio, whose clients need  limits: {{workers: 1}}"
