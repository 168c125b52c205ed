"""Give apps that speak WebSocket the server, the workers and the threads that they need."""

from __future__ import annotations

from collections.abc import Iterator

from bake.app.entry import Entry
from bake.app.frameworks import SOCKETIO_MAKERS, WEBSOCKET_CALLS, WEBSOCKETS
from bake.app.name_resolution import Reader
from bake.app.scopes import Module
from bake.config.recipe import Recipe

#: Threads of gunicorn: a WebSocket takes one for as long as it is open.
THREADS = 100
#: Packages of Socket.IO. A client's requests must all reach the same worker.
SOCKETIO = {"flask_socketio", "socketio"}
#: Packages with which workers pass messages to each other.
BROKERS = {"aioredis", "broadcaster", "channels_redis", "redis", "valkey"}
#: The layer of Channels that does not leave its process.
MEMORY_LAYER = b"InMemoryChannelLayer"


def complete(reader: Reader, entry: Entry, recipe: Recipe, notes: list[str]) -> Recipe:
    """Return the recipe with the server and the limits that WebSockets need, and note them.

    The keys that the recipe sets stay.
    """
    if entry.run:
        return recipe
    return _asgi(reader, recipe, notes) if entry.asgi else _wsgi(reader, recipe, notes)


def _wsgi(reader: Reader, recipe: Recipe, notes: list[str]) -> Recipe:
    """Return the recipe of a WSGI app. Of the servers, only gunicorn hands over a request's connection."""
    users = list(_users(reader))
    if not users:
        return recipe
    module, package = users[0]
    if "server" in recipe.model_fields_set and recipe.server != "gunicorn":
        notes.append(
            f"warning: {module.path} imports {package}, and {recipe.server} does not serve WebSockets; write  "
            "server: gunicorn"
        )
    elif recipe.server != "gunicorn":
        notes.append(f"server: gunicorn ({module.path} imports {package}, and uWSGI does not serve its WebSockets)")
        recipe = recipe.model_copy(update={"server": "gunicorn"})
    limits: dict[str, tuple[int, str]] = {}
    if not SOCKETIO.isdisjoint(name for _, name in users):
        limits["workers"] = (1, "a client of Socket.IO belongs to one worker")
    if recipe.server == "gunicorn":
        limits["threads"] = (THREADS, "each WebSocket takes a thread")
    return _limited(recipe, limits, notes)


def _users(reader: Reader) -> Iterator[tuple[Module, str]]:
    """Yield the modules that serve WebSockets in a WSGI app, each with the package that it imports."""
    for module in reader.modules.values():
        for package in sorted(module.imported_packages & WEBSOCKETS):
            yield module, package
        # A module that imports socketio may be a client.
        if any(reader.makes(module.scope, name, SOCKETIO_MAKERS) for name in module.calls):
            yield module, "socketio"


def _asgi(reader: Reader, recipe: Recipe, notes: list[str]) -> Recipe:
    """Return the recipe of an ASGI app: one worker if its visitors meet in the worker's memory."""
    for module in reader.modules.values():
        if any(reader.makes(module.scope, name, SOCKETIO_MAKERS) for name in module.calls):
            reason = f"{module.path} imports socketio, and a client of Socket.IO belongs to one worker"
            return _limited(recipe, {"workers": (1, reason)}, notes)
        if "CHANNEL_LAYERS" in module.scope.names and MEMORY_LAYER in (reader.folder / module.path).read_bytes():
            reason = f"the {MEMORY_LAYER.decode()} in {module.path} reaches the visitors of one worker only"
            return _limited(recipe, {"workers": (1, reason)}, notes)
    packages = {package for module in reader.modules.values() for package in module.imported_packages}
    if "workers" not in recipe.limits.model_fields_set and packages.isdisjoint(BROKERS):
        places = (
            f"{module.path}:{line}"
            for module in reader.modules.values()
            for name, line in module.calls.items()
            if name.rpartition(".")[2] in WEBSOCKET_CALLS
        )
        if place := next(places, None):
            notes.append(
                f"{place} serves WebSockets, and each worker keeps its own; if they share the app's memory, as in a "
                "chat, write  limits: {workers: 1}"
            )
    return recipe


def _limited(recipe: Recipe, limits: dict[str, tuple[int, str]], notes: list[str]) -> Recipe:
    """Return the recipe with those of these limits that it does not set, and note them with their reasons."""
    limits = {name: limit for name, limit in limits.items() if name not in recipe.limits.model_fields_set}
    changes = {name: value for name, (value, _) in limits.items()}
    if changes:
        text = ", ".join(f"{name}: {value}" for name, value in changes.items())
        notes.append(f"limits: {{{text}}} ({'; '.join(reason for _, reason in limits.values())})")
        recipe = recipe.model_copy(update={"limits": recipe.limits.model_copy(update=changes)})
    return recipe
