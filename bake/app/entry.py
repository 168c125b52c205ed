"""Choose the app to serve: the only one in the folder, or the one that the recipe names."""

from __future__ import annotations

import ast
import configparser
import difflib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bake.app.name_resolution import QUICKSTART, USUAL_FACTORIES, USUAL_NAMES, WSGI_MAKERS, App, Reader
from bake.app.scopes import Module, bound_names, dotted, statements
from bake.errors import AsgiAppError, NoAppError, SeveralAppsError

#: The settings file for production in Pyramid's project templates.
PASTE = "production.ini"


def chosen(reader: Reader, notes: list[str]) -> App | None:
    """Return the only app in the folder, or None if only a PasteDeploy file defines one.

    Raises NoAppError, SeveralAppsError, AsgiAppError.
    """
    apps = reader.apps()
    wsgi = [app for app in apps if not app.asgi and not app.needs]
    if not wsgi and _is_paste(reader.folder / PASTE):
        return None
    if not wsgi:
        asgi = sorted((app for app in apps if app.asgi), key=lambda app: app.rank)
        raise _asgi(asgi[0]) if asgi else _none(reader, apps)
    notes += dict.fromkeys(f"ignored: the ASGI app at {app.root.place}" for app in apps if app.asgi)
    best: dict[tuple[Module, str], App] = {}
    for app in sorted(wsgi, key=lambda app: app.rank):
        best.setdefault((app.root.module, app.root.name), app)
    files: dict[Module, list[App]] = {}
    for app in best.values():
        files.setdefault(app.module, []).append(app)
    kept = [app for here in files.values() for app in _meant(here)]
    if len(kept) > 1:
        raise SeveralAppsError({app.wsgi: app.root.place for app in kept})
    return kept[0]


def _is_paste(path: Path) -> bool:
    """Return whether PasteDeploy can load an app from a file, as in Pyramid's project templates."""
    found = configparser.RawConfigParser(strict=False)
    try:
        return bool(found.read(path)) and any(f"{kind}:main" in found for kind in ("app", "composite", "pipeline"))
    except (configparser.Error, UnicodeDecodeError):
        return False


def _meant(here: list[App]) -> list[App]:
    """Return the apps of one file that have a usual name. Prefer apps to factories."""
    ready = [app for app in here if not app.factory]
    usual = [app for app in ready or here if app.name in (*USUAL_NAMES, *USUAL_FACTORIES)]
    return usual or here


def _none(reader: Reader, apps: list[App]) -> NoAppError:
    """Return the error for a folder without an app. Its details list the candidates and why bake cannot serve them."""
    wanting = [app for app in apps if app.needs]
    near = [f"{app.place}: {app.name}() needs arguments: {', '.join(app.needs)}" for app in wanting]
    known = {(app.module, app.call.lineno, app.call.col_offset) for app in apps if app.call}
    for module in reader.modules.values():
        near += [f"{module.path}: not read: {module.unread}"] if module.unread else []
        if any(reader.makes(module.scope, name, {*WSGI_MAKERS, QUICKSTART}) for name in module.calls):
            near += _calls_near(reader, module, known)
    count = len(reader.modules)
    files = "Python file" if count == 1 else f"{count} Python files"
    return NoAppError(
        f"bake found no WSGI app in the {files} of {reader.folder}"
        + (", only candidates that it cannot serve" if near else ""),
        _with_arguments(wanting[0])
        if wanting
        else "Create one at module level, such as `app = Flask(__name__)`, or a function without required arguments "
        "that returns one. Or set `wsgi: module:callable` in bake.yaml.",
        "\n".join(near),
    )


def _with_arguments(app: App) -> str:
    """Return the way out for a factory with required arguments."""
    values = ", ".join(f"{argument}='…'" for argument in app.needs)
    return f"Give each one a default, or pass them in bake.yaml: `wsgi: {app.wsgi.replace('()', f'({values})')}`."


def _calls_near(reader: Reader, module: Module, known: set[tuple[Module, int, int]]) -> Iterator[str]:
    """Yield, for each call in a module that creates an app, why bake cannot serve it. Skip those of `known` apps."""
    tree = reader.tree(module)
    hidden: set[int] = set()
    for statement, main in statements(tree.body):
        if main and id(statement) not in hidden and any(bound_names(statement)):
            hidden |= {id(inner) for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called, place = dotted(node.func), f"{module.path}:{node.lineno}"
        if reader.makes(module.scope, called, WSGI_MAKERS):
            if id(node) in hidden:
                why = 'only created inside `if __name__ == "__main__"`, where servers cannot import it; move it out'
            elif (module, node.lineno, node.col_offset) in known:
                continue
            else:
                why = "neither assigned to a name of the module, nor returned by a function"
            yield f"{place}: {_text(node)} is {why}"
        elif reader.makes(module.scope, called, {QUICKSTART}):
            mount = _text(node).replace(".quickstart(", ".tree.mount(", 1)
            yield (f"{place}: cherrypy.quickstart starts its own server; instead, write at module level  app = {mount}")


def _text(call: ast.Call) -> str:
    """Return a call as source text, without its arguments if Python cannot write them."""
    try:
        return ast.unparse(call)
    except (RecursionError, ValueError):  # nested too deeply, or a number of more than 4,300 digits
        return f"{dotted(call.func)}(…)"


def _asgi(app: App) -> AsgiAppError:
    module, target = app.module.name, app.name + ("()" if app.factory else "")
    return AsgiAppError(
        f"{app.place}: {app.name} is an ASGI app, which uWSGI does not serve",
        "Add a2wsgi to the requirements, save these lines as wsgi.py, and bake again. WebSockets will not work.",
        f"from a2wsgi import ASGIMiddleware\nfrom {module} import {app.name}\n\napplication = ASGIMiddleware({target})",
    )


def named(reader: Reader, wsgi: str) -> App | None:
    """Return the app that the recipe names, or None if its source does not show one."""
    if wsgi.endswith(".ini"):
        if not _is_paste(reader.folder / wsgi):
            raise NoAppError(
                f"wsgi: {wsgi} is not a PasteDeploy file with a section [app:main]", "Correct `wsgi` in bake.yaml."
            )
        return None
    module_name, _, rest = wsgi.partition(":")
    node, call = ast.parse(rest, mode="eval").body, None
    while not isinstance(node, ast.Name):
        call = node if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else call
        node = node.func if isinstance(node, ast.Call) else node.value  # type: ignore[attr-defined]
    name = node.id
    apps = [app for app in reader.apps() if not app.asgi and not app.needs]
    proposals = [app.wsgi for app in apps]
    if wsgi in proposals:
        return apps[proposals.index(wsgi)]
    close = difflib.get_close_matches(wsgi, proposals, 1, 0.3) or proposals
    hint = f"Did you mean `wsgi: {close[0]}`?" if close else "Set `wsgi` to a module in the folder and a name in it."
    module = reader.modules.get(module_name)
    if module is None:
        stem = PurePosixPath(*module_name.split("."))
        files = [
            found
            for root in ("", *reader.roots)
            for found in (root / stem.with_suffix(".py"), root / stem / "__init__.py")
        ]
        there = next((file for file in files if (reader.folder / file).is_file()), None)
        if there is None:
            raise NoAppError(f"wsgi: {wsgi}: neither {files[0]} nor {files[1]} exists", hint)
        module = reader.parse([there])[0]
    app = reader.look_up(module.scope, name)
    where = f"wsgi: {wsgi}: {module.path}"
    if app is None:
        if name in module.scope.names or module.dynamic:
            return None
        if name in module.scope.hidden:
            raise NoAppError(
                f'{where} defines {name} only inside `if __name__ == "__main__"`', "Move it to module level."
            )
        raise NoAppError(f"{where} has no {name} at module level", hint)
    if app.asgi:
        raise _asgi(app)
    if call and app.needs and not (call.args or call.keywords):
        raise NoAppError(f"{app.place}: {name}() needs arguments: {', '.join(app.needs)}", _with_arguments(app))
    if rest in (name, f"{name}()") and (bool(call) != app.factory or app.inner):
        problem = "is a function that returns an app" if app.factory else "is an app, not a function"
        problem = f"is not a WSGI app, but its {app.inner} is" if app.inner else problem
        raise NoAppError(f"{app.place}: {name} {problem}", f"Write `wsgi: {app.wsgi}`.")
    return app
