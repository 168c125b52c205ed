"""Choose the app to serve: the only one in the folder, or the one that the recipe names."""

from __future__ import annotations

import ast
import configparser
import difflib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bake.app import entry_evidence, entry_pages, own_server, procfile
from bake.app.django import channels_app
from bake.app.entry_evidence import Evidence
from bake.app.frameworks import MAKERS, QUICKSTART, WSGI_METHODS
from bake.app.import_roots import other_folders
from bake.app.name_resolution import USUAL_FACTORIES, USUAL_NAMES, App, Reader
from bake.app.names import dotted_name
from bake.app.python_files import require_valid
from bake.app.requirements_files import requirements_file
from bake.app.scopes import Module, bound_names, statements
from bake.config import field_types
from bake.errors import AsgiAppError, NoAppError, RequirementError, SeveralAppsError
from bake.host import foreign_text

#: The settings file for production in Pyramid's project templates.
PASTE = "production.ini"
#: Folders whose apps are not the one to serve if there is another.
SECONDARY_FOLDERS = {"bin", "examples", "example", "samples", "benchmarks", "scripts", "tools", "contrib"}


@dataclass(frozen=True)
class Entry:
    """The value of `wsgi`, `asgi` or `run`, the app if its source shows one, and the file that decided, or ""."""

    target: str
    app: App | None = None
    source: str = ""
    asgi: bool = False
    run: bool = False

    @property
    def key(self) -> str:
        """Return the recipe's key for the app."""
        return "run" if self.run else "asgi" if self.asgi else "wsgi"

    @property
    def note(self) -> str:
        """Return the note about a detected entry."""
        app = self.app
        places = [app.location] if app else []
        if app and app.root.location != app.location:
            places.append(f"created at {app.root.location}")
        if self.target.endswith(".ini"):
            return f"wsgi: {self.target} (its [app:main])"
        return f"{self.key}: {self.target} ({', '.join(places)}{'; ' * bool(places and self.source)}{self.source})"


def find(reader: Reader, notes: list[str]) -> Entry:
    """Return the app to serve: the one that a file such as a Procfile names, or else the only one in the folder.

    Without one, return the program in the Procfile that serves the site. Raises the errors of `only_app`, or the one
    that proposes `run`.
    """
    for evidence in entry_evidence.find(reader.folder):
        if entry := _named_by(reader, evidence):
            return entry
    if channels := channels_app(reader):
        module, name, settings = channels
        if entry := _named_by(reader, Evidence(f"{settings} uses Channels", module, name, asgi=True)):
            return entry
    try:
        app = only_app(reader, notes)
    except SeveralAppsError as problem:
        entries = (_named_by(reader, evidence) for evidence in entry_evidence.scripts(reader.folder))
        if entry := next((entry for entry in entries if entry and entry.target in problem.candidates), None):
            return entry
        raise
    except NoAppError as problem:
        if web := procfile.own_server(reader.folder):
            return Entry(web, source=procfile.NAME, run=True)
        has_app = any(not app.required_arguments for app in reader.apps)
        raise (None if has_app else own_server.error(reader, problem.details)) or problem from None
    notes += entry_pages.guarded_pages(reader, app) if app else ()
    return Entry(app.target, app, asgi=app.asgi) if app else Entry(_paste_file(reader.folder))


def _named_by(reader: Reader, evidence: Evidence) -> Entry | None:
    """Return the app that a file names, or None if the folder does not have it."""
    for name in evidence.modules:
        module = reader.modules.get(name)
        if module is None:
            continue
        expressions = [evidence.expression]
        if not evidence.expression:
            apps = [app for app in reader.apps if app.module is module and not app.required_arguments]
            apps = sorted((app for app in apps if app.asgi or not evidence.asgi), key=lambda app: app.rank)
            expressions = [app.target.partition(":")[2] for app in apps]
            expressions = expressions if evidence.is_script else ["application", *expressions]
        elif evidence.expression.isidentifier():
            expressions.append(f"{evidence.expression}()")
        for expression in expressions:
            with suppress(NoAppError, AsgiAppError, ValueError):
                target = field_types.wsgi(f"{name}:{expression}")
                app = named_app(reader, target)
                is_bound = expression.partition("(")[0] in module.scope.names
                if app or is_bound or (module.dynamic and evidence.expression):
                    return Entry(target, app, evidence.source, app.asgi if app else evidence.asgi)
    return None


def only_app(reader: Reader, notes: list[str]) -> App | None:
    """Return the only app in the folder, or None if only a PasteDeploy file defines one.

    WSGI apps come first. Raises NoAppError, SeveralAppsError, AppSyntaxError.
    """
    apps = [app for app in reader.apps if not app.required_arguments]
    wsgi_apps = [app for app in apps if not app.asgi]
    if not wsgi_apps and _paste_file(reader.folder):
        return None
    if not apps:
        require_valid({path: fault for path, fault in reader.faults.items() if _may_create_app(reader.folder / path)})
        raise _no_app_error(reader, reader.apps)
    if wsgi_apps:
        note = "ignored: the ASGI app at {}; to serve it, write  asgi: {}"
        notes += dict.fromkeys(note.format(app.root.location, app.target) for app in apps if app.asgi)
    # A function with the arguments of an ASGI app may be a middleware.
    return _best_app(reader, wsgi_apps or [app for app in apps if app.root.call] or apps)


def _may_create_app(path: Path) -> bool:
    """Return whether a file that bake cannot parse has the name of an app's file, or names a call that creates one."""
    words = set(re.findall(r"\w+", foreign_text.read(path, "replace")))
    makers = {maker.rpartition(".")[2] for maker in MAKERS} | WSGI_METHODS
    return path.stem in own_server.USUAL or not words.isdisjoint(makers)


def _best_app(reader: Reader, apps: list[App]) -> App:
    """Return the one app that all these names refer to, under its best name. Raises NoAppError, SeveralAppsError."""
    names: dict[tuple[Module, str], list[App]] = {}
    for app in sorted(apps, key=lambda app: (app.module.path.parts[0] in SECONDARY_FOLDERS, app.rank)):
        names.setdefault((app.root.module, app.root.name), []).append(app)
    best_apps = [apps[0] for apps in names.values()]
    apps_by_module: dict[Module, list[App]] = {}
    public_apps = [app for app in best_apps if not (app.is_private or _is_secondary(app))]
    for app in public_apps or [app for app in best_apps if not _is_secondary(app)] or best_apps:
        apps_by_module.setdefault(app.module, []).append(app)
    candidates = [app for module_apps in apps_by_module.values() for app in _prefer_usual_names(module_apps)]
    candidates = _prefer_entry_file(candidates)
    if len(candidates) > 1:
        problem = SeveralAppsError({app.target: app.root.location for app in candidates}, candidates[0].key)
        problem.hint += _own_folders_hint(reader.folder, candidates)
        raise problem
    (best_app,) = candidates
    if best_app.is_script and best_app.module is not best_app.root.module:
        raise NoAppError(
            f"bake found an app only in a script for workers or administration: {best_app.location}",
            f"If it is the app to serve, write `{best_app.key}: {best_app.target}` in bake.yaml.",
        )
    same_apps = names[best_app.root.module, best_app.root.name]
    _require_one_call(best_app, same_apps)
    return entry_pages.complete(reader, best_app, [app for app in same_apps if not _is_secondary(app)])


def _own_folders_hint(folder: Path, apps: list[App]) -> str:
    """Return the hint for apps that each have their own requirements in a subfolder, while the folder has none."""
    folders = []
    with suppress(RequirementError):
        if not requirements_file(folder):
            parents = [(app.root.module.path.parent, *app.root.module.path.parents) for app in apps]
            folders = [next((path for path in paths if requirements_file(folder / path)), None) for paths in parents]
    if not folders or None in folders:
        return ""
    return f" If they are separate apps, bake the folder of one instead: {', '.join(map(str, folders))}."


def _is_secondary(app: App) -> bool:
    """Return whether an app is one for workers, or an example."""
    return app.is_script or app.module.path.parts[0] in SECONDARY_FOLDERS


def _require_one_call(best_app: App, names: list[App]) -> None:
    """Raise SeveralAppsError if other modules call the app's factory with other arguments.

    A wsgi.py or asgi.py decides.
    """
    is_decided = best_app.module.name.rpartition(".")[2] == best_app.key or best_app.factory
    calls: dict[str, App] = {}
    for app in [] if is_decided else names:
        if not app.factory and not _is_secondary(app):
            calls.setdefault(app.arguments, app)
    if len(calls) > 1:
        raise SeveralAppsError({app.target: app.location for app in calls.values()}, best_app.key)


def _paste_file(folder: Path) -> str:
    """Return the PasteDeploy file for production: that of the folder, or the only one in its subfolders; "" if none."""
    for pattern in (PASTE, f"*/{PASTE}"):
        files = [path for path in folder.glob(pattern) if _is_paste(path)]
        if len(files) == 1:
            return files[0].relative_to(folder).as_posix()
    return ""


def _is_paste(path: Path) -> bool:
    """Return whether PasteDeploy can load an app from a file, as in Pyramid's project templates."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        return bool(parser.read(path)) and any(f"{kind}:main" in parser for kind in ("app", "composite", "pipeline"))
    except (configparser.Error, UnicodeDecodeError):
        return False


def _prefer_usual_names(apps: list[App]) -> list[App]:
    """Return the apps of one file that have a usual name. Prefer apps to factories."""
    objects = [app for app in apps if not app.factory]
    usual_apps = [app for app in objects or apps if app.name in (*USUAL_NAMES, *USUAL_FACTORIES)]
    return usual_apps or apps


def _prefer_entry_file(apps: list[App]) -> list[App]:
    """Return the app of a wsgi.py or asgi.py if all others are in other files of its folder."""
    entries = [app for app in apps if app.module.path.stem == app.key]
    folders = {app.module.path.parent for app in apps}
    return entries if len(entries) == len(folders) == 1 else apps


def _no_app_error(reader: Reader, apps: list[App]) -> NoAppError:
    """Return the error for a folder without an app. Its details list the candidates and why bake cannot serve them."""
    factories = [app for app in apps if app.required_arguments]
    candidates = [
        f"{app.location}: {app.name}() needs arguments: {', '.join(app.required_arguments)}" for app in factories
    ]
    known_calls = {(app.module, app.call.lineno, app.call.col_offset) for app in apps if app.call}
    for module in reader.modules.values():
        candidates += [f"{module.path}: not read: {module.skip_reason}"] if module.skip_reason else []
        if any(reader.makes(module.scope, name, MAKERS) for name in module.calls):
            candidates += _unserved_calls(reader, module, known_calls)
    if folders := list(other_folders(reader.folder)):
        return NoAppError(
            f"bake found no WSGI or ASGI app in {reader.folder}, but one in its folder {folders[0]}",
            f"Bake that folder: {reader.folder / folders[0]}.",
            "\n".join([*candidates, *(f"{folder}/ has an app" for folder in folders)]),
        )
    above = reader.folder.resolve().parent
    if not factories and (above / "manage.py").is_file():
        return NoAppError(
            f"{reader.folder} is a part of a Django project",
            f"Bake the project's folder: {above}.",
            "\n".join(candidates),
        )
    count = len(reader.modules)
    files = "Python file" if count == 1 else f"{count} Python files"
    return NoAppError(
        f"bake found no WSGI or ASGI app in the {files} of {reader.folder}"
        + (", only candidates that it cannot serve" if candidates else ""),
        _paste_hint(reader.folder) or _arguments_hint(factories[0])
        if factories
        else "Create one at module level, such as `app = Flask(__name__)`, or a function without required arguments "
        "that returns one. Or set `wsgi: module:callable` or `asgi: module:callable` in bake.yaml.",
        "\n".join(candidates),
    )


def _paste_hint(folder: Path) -> str:
    """Return the hint for a folder with a PasteDeploy file, such as that of Pyramid's tutorials, or ""."""
    files = sorted(path.name for path in folder.glob("*.ini") if _is_paste(path) and "test" not in path.name)
    if not files:
        return ""
    return (
        f"{files[0]} calls it. Copy that file to {PASTE} without the parts for development, such as "
        f"pyramid_debugtoolbar, and bake uses it. Or write `wsgi: {files[0]}` in bake.yaml."
    )


def _arguments_hint(app: App) -> str:
    """Return the hint for a factory with required arguments."""
    values = ", ".join(f"{argument}='…'" for argument in app.required_arguments)
    return (
        f"Give each one a default, or pass them in bake.yaml: `{app.key}: {app.target.replace('()', f'({values})')}`."
    )


def _unserved_calls(reader: Reader, module: Module, known_calls: set[tuple[Module, int, int]]) -> Iterator[str]:
    """Yield, for each call in a module that creates an app, why bake cannot serve it. Skip `known_calls`."""
    tree = reader.tree(module)
    main_node_ids: set[int] = set()
    for statement, main in statements(tree.body):
        if main and id(statement) not in main_node_ids and any(bound_names(statement)):
            main_node_ids |= {id(inner) for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function, location = dotted_name(node.func), f"{module.path}:{node.lineno}"
        if reader.makes(module.scope, function, MAKERS - {QUICKSTART}):
            if id(node) in main_node_ids:
                reason = 'only created inside `if __name__ == "__main__"`, where servers cannot import it; move it out'
            elif (module, node.lineno, node.col_offset) in known_calls:
                continue
            else:
                reason = "neither assigned to a name of the module, nor returned by a function"
            yield f"{location}: {_text(node)} is {reason}"
        elif reader.makes(module.scope, function, {QUICKSTART}):
            mount = _text(node).replace(".quickstart(", ".tree.mount(", 1)
            yield (
                f"{location}: cherrypy.quickstart starts its own server; instead, write at module level  app = {mount}"
            )


def _text(call: ast.Call) -> str:
    """Return a call as source text, without its arguments if Python cannot write them."""
    try:
        return ast.unparse(call)
    except (RecursionError, ValueError):  # nested too deeply, or a number of more than 4,300 digits
        return f"{dotted_name(call.func)}(…)"


def named_app(reader: Reader, target: str, key: str = "") -> App | None:
    """Return the app that the recipe names, or None if its source does not show one.

    `key` is the recipe's key with the name; "" if a file names an app of any kind. Raises NoAppError, AsgiAppError.
    """
    if target.endswith(".ini"):
        if not _is_paste(reader.folder / target):
            raise NoAppError(
                f"wsgi: {target} is not a PasteDeploy file with a section [app:main]", "Correct `wsgi` in bake.yaml."
            )
        return None
    module_name, _, source = target.partition(":")
    node, call = ast.parse(source, mode="eval").body, None
    while not isinstance(node, ast.Name):
        call = node if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else call
        node = node.func if isinstance(node, ast.Call) else node.value  # type: ignore[attr-defined]
    name = node.id
    apps = [app for app in reader.apps if key in ("", app.key) and not app.required_arguments]
    proposals = [app.target for app in apps]
    if target in proposals:
        return apps[proposals.index(target)]
    similar = difflib.get_close_matches(target, proposals, 1, 0.3) or proposals
    hint = (
        f"Did you mean `{key}: {similar[0]}`?"
        if similar
        else f"Set `{key}` to a module in the folder and a name in it."
    )
    module = reader.modules.get(module_name)
    if module is None:
        stem = PurePosixPath(*module_name.split("."))
        paths = [
            path
            for root in ("", *reader.roots)
            for path in (root / stem.with_suffix(".py"), root / stem / "__init__.py")
        ]
        module_file = next((path for path in paths if (reader.folder / path).is_file()), None)
        if module_file is None:
            raise NoAppError(f"{key}: {target}: neither {paths[0]} nor {paths[1]} exists", hint)
        module = reader.parse([module_file])[0]
    app = reader.look_up(module.scope, name)
    prefix = f"{key}: {target}: {module.path}"
    if app is None:
        if name in module.scope.names or module.dynamic:
            return None
        if name in module.scope.main_names:
            raise NoAppError(
                f'{prefix} defines {name} only inside `if __name__ == "__main__"`', "Move it to module level."
            )
        raise NoAppError(f"{prefix} has no {name} at module level", hint)
    if key and key != app.key:
        raise AsgiAppError(
            f"{app.location}: {name} is {'an ASGI' if app.asgi else 'a WSGI'} app, and `{key}` names the other kind",
            f"Write `{app.key}: {target}` in bake.yaml instead.",
        )
    if call and app.required_arguments and not (call.args or call.keywords):
        raise NoAppError(
            f"{app.location}: {name}() needs arguments: {', '.join(app.required_arguments)}", _arguments_hint(app)
        )
    if source in (name, f"{name}()") and (bool(call) != app.factory or app.inner):
        problem = "is a function that returns an app" if app.factory else "is an app, not a function"
        problem = f"is not a WSGI app, but its {app.inner} is" if app.inner else problem
        raise NoAppError(f"{app.location}: {name} {problem}", f"Write `{app.key}: {app.target}`.")
    return app
