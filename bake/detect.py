"""Reads an app's folder and proposes the recipe's missing parts."""

from __future__ import annotations

import ast
import difflib
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bake.errors import AsgiAppError, NoAppError, RequirementError, SeveralAppsError
from bake.modules import USUAL_FACTORIES, USUAL_NAMES, WSGI_MAKERS, App, Module, Reader
from bake.recipe import Recipe
from bake.requirements import project_table
from bake.target import TARGETS

#: Distributions whose name is not that of their module.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "MySQLdb": "mysqlclient",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "jwt": "PyJWT",
    "psycopg2": "psycopg2-binary",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


@dataclass(frozen=True)
class Found:
    """A recipe without gaps, and what was seen on the way: lines to show."""

    recipe: Recipe
    notes: tuple[str, ...]


def complete(folder: Path, recipe: Recipe) -> Found:
    """Fill in name, wsgi, requirements and static, where the recipe leaves them out.

    Raises AppSyntaxError, NoAppError, SeveralAppsError, AsgiAppError, RequirementError.
    """
    reader = Reader(folder, TARGETS[recipe.base].python)
    notes: list[str] = []
    app = _named(reader, recipe.wsgi) if recipe.wsgi else _chosen(reader, notes)
    changes: dict[str, object] = {"wsgi": recipe.wsgi or (app and app.wsgi)}
    if app and not recipe.wsgi:
        made = "" if app.root.place == app.place else f", made at {app.root.place}"
        notes.insert(0, f"wsgi: {app.wsgi} ({app.place}{made})")
    if recipe.requirements is None:
        changes["requirements"] = _requirements(reader)
        notes.append(f"requirements: {changes['requirements']}")
    if recipe.static is None:
        changes["static"] = _static(reader, app, notes)
    if recipe.name is None:
        slug = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower())[:63].strip("-") or "app"
        changes["name"] = slug
        notes.append(f"name: {slug} (the folder's)")
    return Found(recipe.model_copy(update=changes), tuple(notes))


def _chosen(reader: Reader, notes: list[str]) -> App:
    """The one app of the folder."""
    apps = reader.apps()
    wsgi = [app for app in apps if not app.asgi and not app.needs]
    if not wsgi:
        asgi = sorted((app for app in apps if app.asgi), key=lambda app: app.rank)
        raise _asgi(asgi[0]) if asgi else _none(reader, apps)
    notes += dict.fromkeys(f"left aside: the ASGI app at {app.root.place}" for app in apps if app.asgi)
    best: dict[tuple[Module, str], App] = {}
    for app in sorted(wsgi, key=lambda app: app.rank):
        best.setdefault((app.root.module, app.root.name), app)
    kept = [app for module in {app.module: None for app in best.values()} for app in _meant(module, best.values())]
    if len(kept) > 1:
        lines = [f"{app.root.place}: to serve this one, write  wsgi: {app.wsgi}" for app in kept]
        raise SeveralAppsError(
            f"{len(kept)} apps were found: {', '.join(app.wsgi for app in kept)}",
            "Write one of these lines into bake.yaml.",
            "\n".join(lines),
        )
    return kept[0]


def _meant(module: Module, apps: Iterable[App]) -> list[App]:
    """Of several apps in one file, those with the usual name; a ready one goes before a factory."""
    here = [app for app in apps if app.module is module]
    ready = [app for app in here if not app.factory]
    usual = [app for app in ready or here if app.name in (*USUAL_NAMES, *USUAL_FACTORIES)]
    return usual or here


def _none(reader: Reader, apps: list[App]) -> NoAppError:
    """Nothing to serve: say what came near."""
    near = [f"{app.place}: {app.name}() needs arguments: {', '.join(app.needs)}" for app in apps if app.needs]
    for module in reader.modules.values():
        hidden = {id(inner) for nodes in module.scope.hidden.values() for node in nodes for inner in ast.walk(node)}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and reader.makes(module.scope, node.func, WSGI_MAKERS):
                if id(node) in hidden:
                    why = 'only made inside `if __name__ == "__main__"`, where no server sees it; move it out'
                elif any(app.call is node for app in apps):
                    continue
                else:
                    why = "neither bound to a name of the module, nor returned by a function"
                near.append(f"{module.path}:{node.lineno}: {ast.unparse(node)} is {why}")
    count = len(reader.modules)
    return NoAppError(
        f"No WSGI app was found in the {count} Python files of {reader.folder}" + (": see below" if near else ""),
        "Bind one at module level, as in `app = Flask(__name__)`, or give a function that needs no argument and "
        "returns one; or name it in bake.yaml: `wsgi: module:callable`.",
        "\n".join(near),
    )


def _asgi(app: App) -> AsgiAppError:
    module, target = app.module.name, app.name + ("()" if app.factory else "")
    return AsgiAppError(
        f"{app.place}: {app.name} is an ASGI app, which uWSGI does not serve",
        "Add a2wsgi to the requirements, save these lines as wsgi.py, and bake again. Web sockets will not work.",
        f"from a2wsgi import ASGIMiddleware\nfrom {module} import {app.name}\n\napplication = ASGIMiddleware({target})",
    )


def _named(reader: Reader, wsgi: str) -> App | None:
    """The app that the recipe names; None where reading cannot tell."""
    module_name, _, rest = wsgi.partition(":")
    name, called = rest.removesuffix("()"), rest.endswith("()")
    proposals = [app.wsgi for app in reader.apps() if not app.asgi and not app.needs]
    close = difflib.get_close_matches(wsgi, proposals, 1, 0.3) or proposals
    hint = f"Did you mean `wsgi: {close[0]}`?" if close else "Name a module of the folder and a name in it."
    module = reader.modules.get(module_name)
    if module is None:
        stem = PurePosixPath(*module_name.split("."))
        files = (stem.with_suffix(".py"), stem / "__init__.py")
        there = next((file for file in files if (reader.folder / file).is_file()), None)
        if there is None:
            raise NoAppError(f"wsgi: {wsgi}: there is no {files[0]} and no {files[1]}", hint)
        module = reader.parse([there])[0]
    app = reader.look_up(module.scope, name)
    where = f"wsgi: {wsgi}: {module.path}"
    if app is None:
        if name in module.scope.names or module.dynamic():
            return None
        if name in module.scope.hidden:
            raise NoAppError(f'{where} has {name} only inside `if __name__ == "__main__"`', "Move it out of there.")
        raise NoAppError(f"{where} has no {name} at module level", hint)
    if app.asgi:
        raise _asgi(app)
    if called and app.needs:
        raise NoAppError(f"{app.place}: {name}() needs arguments: {', '.join(app.needs)}", "Give each a default.")
    if called != app.factory:
        problem = "is a function that makes an app" if app.factory else "is an app already"
        raise NoAppError(f"{app.place}: {name} {problem}", f"Write `wsgi: {app.wsgi}`.")
    return app


def _requirements(reader: Reader) -> str:
    """The file that says what the app needs."""
    folder = reader.folder
    if (folder / "requirements.txt").is_file():
        return "requirements.txt"
    project = folder / "pyproject.toml"
    if "dependencies" in project_table(project).get("project", {}):
        return "pyproject.toml"
    own = {name.partition(".")[0] for name in reader.modules} | {
        path.name for path in folder.iterdir() if path.is_dir()
    }
    seen: set[str] = set()
    for module in reader.modules.values():
        for node in ast.walk(module.tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            seen |= {name.partition(".")[0] for name in names}
    needed = sorted({DISTRIBUTIONS.get(n, n.replace("_", "-")) for n in seen - own - set(sys.stdlib_module_names)})
    without = " (pyproject.toml has no [project].dependencies)" if project.is_file() else ""
    raise RequirementError(
        f"{folder} has no requirements.txt{without}",
        "Save these lines, made from the app's imports, as requirements.txt and look them over."
        if needed
        else "Write one, empty if the app needs nothing; or name another file in bake.yaml: `requirements: …`.",
        "\n".join(needed),
    )


def _static(reader: Reader, app: App | None, notes: list[str]) -> dict[str, str]:
    """The folder that Flask itself would serve: URL prefix to folder."""
    call = app.root.call if app else None
    if app is None or call is None or not ast.unparse(call.func).endswith("Flask"):
        return {}
    values: dict[str, object] = {"static_folder": "static", "static_url_path": None}
    for keyword in call.keywords:
        if keyword.arg in values:
            if not isinstance(keyword.value, ast.Constant):
                notes.append(f"static: {keyword.arg} at {app.root.module.path}:{call.lineno} is computed; set `static`")
                return {}
            values[keyword.arg] = keyword.value.value
    folder, prefix = values["static_folder"], values["static_url_path"]
    if not isinstance(folder, str):
        return {}
    path = os.path.normpath(app.root.module.path.parent / folder)
    prefix = "/" + (prefix if isinstance(prefix, str) else PurePosixPath(path).name).strip("/")
    try:
        proposed = Recipe.model_validate({"static": {prefix: path}}, context={"folder": reader.folder}).static
    except ValueError:  # the folder is missing, or one that nginx cannot serve: Flask still does
        return {}
    notes.append(f"static: {prefix} from {path}/")
    return proposed or {}
