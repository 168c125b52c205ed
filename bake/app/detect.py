"""Reads an app's folder and proposes the recipe's missing parts."""

from __future__ import annotations

import ast
import configparser
import difflib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bake.app import author_server
from bake.app.name_resolution import QUICKSTART, USUAL_FACTORIES, USUAL_NAMES, WSGI_MAKERS, App, Reader
from bake.app.requirements_files import found_file
from bake.app.scopes import Module, bound_names, dotted, statements
from bake.config import field_types
from bake.config.recipe import Django, Recipe, Writable
from bake.errors import AsgiAppError, NoAppError, RequirementError, SeveralAppsError

#: Distributions whose name is not that of their module.
DISTRIBUTIONS = {
    "Crypto": "pycryptodome",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "allauth": "django-allauth",
    "bs4": "beautifulsoup4",
    "corsheaders": "django-cors-headers",
    "crispy_forms": "django-crispy-forms",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "debug_toolbar": "django-debug-toolbar",
    "decouple": "python-decouple",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "environ": "django-environ",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "jwt": "PyJWT",
    "magic": "python-magic",
    "pkg_resources": "setuptools",
    "psycopg2": "psycopg2-binary",
    "rest_framework": "djangorestframework",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "storages": "django-storages",
    "web": "web.py",
    "yaml": "PyYAML",
}
#: The settings of a Django project that decide something here.
SETTINGS = {"ALLOWED_HOSTS", "SECRET_KEY"}
#: What Pyramid's starters call their settings for production.
PASTE = "production.ini"


@dataclass(frozen=True)
class Found:
    """A recipe without gaps, and what was seen on the way: lines to show."""

    recipe: Recipe
    notes: tuple[str, ...]


def complete(folder: Path, recipe: Recipe) -> Found:
    """Fill in name, wsgi, requirements and static, where the recipe leaves them out.

    Raises AppFolderError, AppSyntaxError, NoAppError, SeveralAppsError, AsgiAppError, RequirementError.
    """
    if recipe.package:
        return _packaged(recipe, recipe.package)
    reader = Reader(folder, recipe.target.python)
    notes: list[str] = []
    app = _named(reader, recipe.wsgi) if recipe.wsgi else chosen(reader, notes)
    changes: dict[str, object] = {"wsgi": recipe.wsgi or (app.wsgi if app else PASTE)}
    if app is None and not recipe.wsgi:
        notes.insert(0, f"wsgi: {PASTE} (its [app:main])")
    elif app and not recipe.wsgi:
        made = "" if app.root.place == app.place else f", made at {app.root.place}"
        notes.insert(0, f"wsgi: {app.wsgi} ({app.place}{made})")
    notes += (f"not read: {module.path} ({module.unread})" for module in reader.modules.values() if module.unread)
    if recipe.requirements is None:
        changes["requirements"] = needed(reader)
        notes.append(f"requirements: {changes['requirements'] or 'none, as the imports tell'}")
    if recipe.static is None:
        changes["static"] = _static(reader, app, notes)
    if recipe.django is None:
        changes |= _django(reader, recipe, app, notes)
    if recipe.release is None:
        changes["release"] = _release(reader, changes.get("django", recipe.django), notes)
    if recipe.writable.observe:
        changes["writable"] = _writable(reader, recipe, notes)
    if recipe.preload is None:
        changes["preload"] = _preload(reader, {*recipe.env, *recipe.secrets}, notes)
    if recipe.check.author is None:
        command = author_server.command(reader, app, str(changes["wsgi"]))
        changes["check"] = recipe.check.model_copy(update={"author": command})
        notes.append(f"check.author: {command} (the machine's pages are compared with those of this server)")
    if recipe.name is None:
        slug = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower())[:63].strip("-") or "app"
        changes["name"] = slug
        notes.append(f"name: {slug} (the folder's)")
    return Found(recipe.model_copy(update=changes), tuple(notes))


def _packaged(recipe: Recipe, package: str) -> Found:
    """A package of the index is the app: nothing of the folder is."""
    if recipe.wsgi is None:
        raise NoAppError(f"app: {package}: what does it serve?", "Say it in bake.yaml: `wsgi: module:callable`.")
    more = recipe.requirements or ()
    if isinstance(more, str):
        raise RequirementError(
            f"app: {package}: requirements are read from no file", "List them: requirements: [flask]."
        )
    name = recipe.name or canonicalize_name(Requirement(package).name)
    check = recipe.check if recipe.check.author else recipe.check.model_copy(update={"author": author_server.PLAIN})
    changes = {"name": name, "requirements": (package, *more), "static": {}, "check": check}
    return Found(recipe.model_copy(update=changes), (f"app: {package} from the index; nothing of the folder is in it",))


def chosen(reader: Reader, notes: list[str]) -> App | None:
    """The one app of the folder; None where only PasteDeploy's file says how to make it.

    Raises NoAppError, SeveralAppsError, AsgiAppError.
    """
    apps = reader.apps()
    wsgi = [app for app in apps if not app.asgi and not app.needs]
    if not wsgi and _is_paste(reader.folder / PASTE):
        return None
    if not wsgi:
        asgi = sorted((app for app in apps if app.asgi), key=lambda app: app.rank)
        raise _asgi(asgi[0]) if asgi else _none(reader, apps)
    notes += dict.fromkeys(f"left aside: the ASGI app at {app.root.place}" for app in apps if app.asgi)
    best: dict[tuple[Module, str], App] = {}
    for app in sorted(wsgi, key=lambda app: app.rank):
        best.setdefault((app.root.module, app.root.name), app)
    files: dict[Module, list[App]] = {}
    for app in best.values():
        files.setdefault(app.module, []).append(app)
    kept = [app for here in files.values() for app in _meant(here)]
    if len(kept) > 1:
        lines = [f"{app.root.place}: to serve this one, write  wsgi: {app.wsgi}" for app in kept]
        raise SeveralAppsError(
            f"{len(kept)} apps were found: {', '.join(app.wsgi for app in kept)}",
            "Write one of these lines into bake.yaml.",
            "\n".join(lines),
        )
    return kept[0]


def _is_paste(path: Path) -> bool:
    """Whether PasteDeploy can make an app of a file, as Pyramid's starters have it."""
    found = configparser.RawConfigParser(strict=False)
    try:
        return bool(found.read(path)) and any(f"{kind}:main" in found for kind in ("app", "composite", "pipeline"))
    except (configparser.Error, UnicodeDecodeError):
        return False


def _meant(here: list[App]) -> list[App]:
    """Of several apps in one file, those with the usual name; a ready one goes before a factory."""
    ready = [app for app in here if not app.factory]
    usual = [app for app in ready or here if app.name in (*USUAL_NAMES, *USUAL_FACTORIES)]
    return usual or here


def _none(reader: Reader, apps: list[App]) -> NoAppError:
    """Nothing to serve: say what came near."""
    near = [f"{app.place}: {app.name}() needs arguments: {', '.join(app.needs)}" for app in apps if app.needs]
    known = {(app.module, app.call.lineno, app.call.col_offset) for app in apps if app.call}
    for module in reader.modules.values():
        near += [f"{module.path}: not read: {module.unread}"] if module.unread else []
        if any(reader.makes(module.scope, name, {*WSGI_MAKERS, QUICKSTART}) for name in module.calls):
            near += _calls_near(reader, module, known)
    count = len(reader.modules)
    files = "one Python file" if count == 1 else f"{count} Python files"
    return NoAppError(
        f"No WSGI app was found in the {files} of {reader.folder}" + (": see below" if near else ""),
        "Bind one at module level, as in `app = Flask(__name__)`, or give a function that needs no argument and "
        "returns one; or name it in bake.yaml: `wsgi: module:callable`.",
        "\n".join(near),
    )


def _calls_near(reader: Reader, module: Module, known: set[tuple[Module, int, int]]) -> Iterator[str]:
    """Yield why the calls in a module that make an app give none to serve, but for those of `known` apps."""
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
                why = 'only made inside `if __name__ == "__main__"`, where no server sees it; move it out'
            elif (module, node.lineno, node.col_offset) in known:
                continue
            else:
                why = "neither bound to a name of the module, nor returned by a function"
            yield f"{place}: {_text(node)} is {why}"
        elif reader.makes(module.scope, called, {QUICKSTART}):
            mount = _text(node).replace(".quickstart(", ".tree.mount(", 1)
            yield (
                f"{place}: cherrypy.quickstart starts a server of its own; for this one, "
                f"write at module level  app = {mount}"
            )


def _text(call: ast.Call) -> str:
    """Return a call as source text, without its arguments where Python cannot write them."""
    try:
        return ast.unparse(call)
    except (RecursionError, ValueError):  # nested too deeply, or a number of more than 4,300 digits
        return f"{dotted(call.func)}(…)"


def _asgi(app: App) -> AsgiAppError:
    module, target = app.module.name, app.name + ("()" if app.factory else "")
    return AsgiAppError(
        f"{app.place}: {app.name} is an ASGI app, which uWSGI does not serve",
        "Add a2wsgi to the requirements, save these lines as wsgi.py, and bake again. Web sockets will not work.",
        f"from a2wsgi import ASGIMiddleware\nfrom {module} import {app.name}\n\napplication = ASGIMiddleware({target})",
    )


def _named(reader: Reader, wsgi: str) -> App | None:
    """The app that the recipe names; None where reading cannot tell."""
    if wsgi.endswith(".ini"):
        if not _is_paste(reader.folder / wsgi):
            raise NoAppError(f"wsgi: {wsgi}: there is no such file with a section [app:main]")
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
    hint = f"Did you mean `wsgi: {close[0]}`?" if close else "Name a module of the folder and a name in it."
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
            raise NoAppError(f"wsgi: {wsgi}: there is no {files[0]} and no {files[1]}", hint)
        module = reader.parse([there])[0]
    app = reader.look_up(module.scope, name)
    where = f"wsgi: {wsgi}: {module.path}"
    if app is None:
        if name in module.scope.names or module.dynamic:
            return None
        if name in module.scope.hidden:
            raise NoAppError(f'{where} has {name} only inside `if __name__ == "__main__"`', "Move it out of there.")
        raise NoAppError(f"{where} has no {name} at module level", hint)
    if app.asgi:
        raise _asgi(app)
    if call and app.needs and not (call.args or call.keywords):
        values = ", ".join(f"{argument}='…'" for argument in app.needs)
        raise NoAppError(
            f"{app.place}: {name}() needs arguments: {', '.join(app.needs)}",
            f"Give each a default, or say here what they are: `wsgi: {module_name}:{name}({values})`.",
        )
    if rest in (name, f"{name}()") and (bool(call) != app.factory or app.inner):
        problem = "is a function that makes an app" if app.factory else "is an app already"
        problem = f"is no WSGI app itself; its {app.inner} is" if app.inner else problem
        raise NoAppError(f"{app.place}: {name} {problem}", f"Write `wsgi: {app.wsgi}`.")
    return app


def needed(reader: Reader) -> str | tuple[str, ...]:
    """The file that says what the app needs; nothing, where no import needs any.

    Raises RequirementError with a line to take over, made from the imports.
    """
    folder = reader.folder
    named = found_file(folder)
    if named:
        return named
    own = {name.partition(".")[0] for name in reader.modules} | {
        path.name for path in folder.iterdir() if path.is_dir()
    }
    seen = {name for module in reader.modules.values() for name in module.imported}
    proposed = sorted({DISTRIBUTIONS.get(n, n.replace("_", "-")) for n in seen - own - set(sys.stdlib_module_names)})
    if not proposed:
        return ()
    raise RequirementError(
        f"{folder} has no requirements.txt, and nothing else that says what the app needs",
        "Look the line over that was made from the app's imports, and write it into bake.yaml; or save a "
        "requirements.txt.",
        f"requirements: [{', '.join(proposed)}]",
    )


def _django(reader: Reader, recipe: Recipe, app: App | None, notes: list[str]) -> dict[str, object]:
    """Return the keys that make a Django project fit for a server, and note them."""
    settings = _settings_module(reader, recipe, app)
    if settings is None:
        return {}
    assigned = _assigned(reader, settings)
    media = any(module.serves_media for module in reader.modules.values())
    notes.append(
        f"django: settings around {settings}: DEBUG off, `domains` are allowed hosts, static files collected, SQLite's "
        f"file and MEDIA_ROOT in /var/lib/app{', uploads served at MEDIA_URL' if media else ''}; `django: off` uses "
        "yours as they are"
    )
    hosts = [name for name in _strings(assigned.get("ALLOWED_HOSTS")) if "." in name.strip(".") and name[0].isalpha()]
    if hosts and not recipe.domains:
        notes.append(f"domains: none, so the site answers to any name; ALLOWED_HOSTS suggests  domains: [{hosts[0]}]")
    changes: dict[str, object] = {"django": Django(settings=settings, media=media)}
    key = {*_strings(assigned.get("SECRET_KEY"))}
    insecure = any(text.startswith("django-insecure-") for text in key)
    if insecure and key.isdisjoint({*recipe.env, *recipe.secrets}):
        changes["secrets"] = (*recipe.secrets, *({"SECRET_KEY"} - set(recipe.secrets)))
        notes.append("secrets: SECRET_KEY (the one in the settings is marked insecure)")
    return changes


def _settings_module(reader: Reader, recipe: Recipe, app: App | None) -> str | None:
    """Return the settings module of a Django project: the environment's, else the one that its WSGI module names.

    Templates let manage.py name settings for development and wsgi.py those for a server.
    """
    served = [reader.modules.get((recipe.wsgi or "").partition(":")[0])]
    served += [app.module, app.root.module] if app else []
    modules = dict.fromkeys(module for module in (*served, *reader.modules.values()) if module)
    named = [recipe.env.get("DJANGO_SETTINGS_MODULE"), *(name for module in modules for name in module.settings)]
    return next((name for name in named if name in reader.modules), None)


def _strings(node: ast.expr | None) -> Iterator[str]:
    """Yield the strings of an expression, but for empty ones."""
    for part in ast.walk(node) if node else ():
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value:
            yield part.value


def _imports(reader: Reader, package: str) -> bool:
    """Return whether a module of the app imports a package."""
    return any(package in module.imported for module in reader.modules.values())


def _release(reader: Reader, django: object, notes: list[str]) -> tuple[str, ...]:
    """Return the commands that bring the tables of an app's database up to date, and note them."""
    steps: tuple[str, ...] = ()
    if isinstance(django, Django):
        steps = ("python -m django migrate --noinput",)
    elif (reader.folder / "migrations/env.py").is_file() and _imports(reader, "flask_migrate"):
        steps = ("flask db upgrade",)
    elif (reader.folder / "alembic.ini").is_file():
        notes.append("alembic.ini is here: to migrate with each release, write  release: [alembic upgrade head]")
    if steps:
        notes.append(f"release: [{', '.join(steps)}] (once for each release, before it serves; `release: []` ends it)")
    return steps


def _assigned(reader: Reader, name: str) -> dict[str, ast.expr]:
    """Return SETTINGS as a module assigns them, with those of the modules that it imports everything from.

    A module is read once. As in Python, one that is still being read gives what it has assigned so far.
    """
    assigned: dict[str, dict[str, ast.expr]] = {name: {}}
    stack = [(name, _settings_statements(reader, name))]
    while stack:
        here, rest = stack[-1]
        statement = next(rest, None)
        if statement is None:
            stack.pop()
            if stack:
                assigned[stack[-1][0]] |= assigned[here]
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            assigned[here] |= dict.fromkeys(names & SETTINGS, statement.value)
        elif isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            origin = reader.modules[here].absolute(statement)
            if origin in assigned:
                assigned[here] |= assigned[origin]
            elif origin in reader.modules:
                assigned[origin] = {}
                stack.append((origin, _settings_statements(reader, origin)))
    return assigned[name]


def _settings_statements(reader: Reader, name: str) -> Iterator[ast.stmt]:
    return (statement for statement, _ in statements(reader.tree(reader.modules[name]).body))


def _writable(reader: Reader, recipe: Recipe, notes: list[str]) -> Writable:
    """Return the recipe's writable paths and those that the app plainly writes, and note these.

    A path that the folder ships is left out, unless it is empty but for placeholders: kept, it would stay as the first
    release ships it.
    """
    found: dict[str, str] = {}
    kept = [PurePosixPath(path) for path in recipe.writable.paths]
    instance = _imports(reader, "flask_sqlalchemy")
    for module in reader.modules.values():
        for write in module.writes:
            path = module.path.parent / write.path if write.beside else write.path
            if instance and not write.beside and not write.folder and write.path.suffix:
                # Flask-SQLAlchemy keeps relative SQLite files there.
                path = PurePosixPath("instance")
            if not any(path == other or path in other.parents or other in path.parents for other in kept):
                shipped = reader.folder / path
                files = shipped.rglob("*") if shipped.is_dir() else [shipped] * shipped.exists()
                if all(file.is_dir() or file.name.startswith(".") for file in files) and _is_inside(path):
                    kept.append(path)
                    found[str(path)] = str(module.path)
    notes += (f"writable: {path} is kept in /var/lib/app ({place} writes it)" for path, place in found.items())
    return recipe.writable.model_copy(update={"paths": (*recipe.writable.paths, *found)})


def _is_inside(path: PurePosixPath) -> bool:
    """Return whether a path can stand under `writable`."""
    with suppress(ValueError):
        return bool(field_types.inside(str(path)))
    return False


def _preload(reader: Reader, variables: set[str], notes: list[str]) -> bool:
    """Return whether the app makes a secret key at random, unless one of `variables` gives it.

    Its workers then have to share what one import made: with a key each, people would be logged out at random.
    """
    for module in reader.modules.values():
        for key in module.random_keys:
            if not key.strings & variables:
                notes.append(
                    f"preload: on ({module.path}:{key.line} makes a secret key at random: the app is loaded once for "
                    "all workers; people are logged out at each restart)"
                )
                return True
    return False


def _static(reader: Reader, app: App | None, notes: list[str]) -> dict[str, str]:
    """The folder that Flask itself would serve: URL prefix to folder."""
    call = app.root.call if app else None
    if app is None or call is None or not dotted(call.func).endswith("Flask"):
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
