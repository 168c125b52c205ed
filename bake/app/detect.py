"""Read an app's folder and propose the missing parts of its recipe."""

from __future__ import annotations

import ast
import configparser
import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bake.app import author_server
from bake.app.name_resolution import ASGI_MAKERS, QUICKSTART, USUAL_FACTORIES, USUAL_NAMES, WSGI_MAKERS, App, Reader
from bake.app.requirements_files import found_file
from bake.app.scopes import Module, bound_names, dotted, statements
from bake.app.variables import ALWAYS_SET
from bake.config import field_types, secret_names
from bake.config.recipe import Django, Recipe, Writable
from bake.errors import AsgiAppError, NoAppError, RequirementError, SeveralAppsError

#: Modules, and the distributions with another name that contain them.
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
#: The settings of a Django project that detection reads.
SETTINGS = {"ALLOWED_HOSTS", "SECRET_KEY"}
#: The settings file for production in Pyramid's project templates.
PASTE = "production.ini"


@dataclass(frozen=True)
class Found:
    """A complete recipe, and notes to show about what bake detected."""

    recipe: Recipe
    notes: tuple[str, ...]
    #: The frameworks that the app imports: the distribution of each, and the place of the import.
    frameworks: Mapping[str, str] = field(default_factory=dict)


def complete(folder: Path, recipe: Recipe) -> Found:
    """Detect the keys that the recipe does not set, and return the complete recipe.

    Raises AppFolderError, AppSyntaxError, NoAppError, SeveralAppsError, AsgiAppError, RequirementError.
    """
    if recipe.package:
        return _packaged(recipe, recipe.package)
    reader = Reader(folder, recipe.target.python)
    notes = _exposed(recipe)
    app = _named(reader, recipe.wsgi) if recipe.wsgi else chosen(reader, notes)
    changes: dict[str, object] = {"wsgi": recipe.wsgi or (app.wsgi if app else PASTE)}
    if app is None and not recipe.wsgi:
        notes.insert(0, f"wsgi: {PASTE} (its [app:main])")
    elif app and not recipe.wsgi:
        made = "" if app.root.place == app.place else f", created at {app.root.place}"
        notes.insert(0, f"wsgi: {app.wsgi} ({app.place}{made})")
    notes += (f"not read: {module.path} ({module.unread})" for module in reader.modules.values() if module.unread)
    if recipe.requirements is None:
        changes["requirements"] = needed(reader)
        notes.append(f"requirements: {changes['requirements'] or 'none, because the app imports no other packages'}")
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
    known = {*recipe.model_copy(update=changes).secrets, *recipe.env}
    settings = getattr(changes.get("django", recipe.django), "settings", "")
    named = [app.module, app.root.module] if app else []
    loaded = reader.imported_with(*named, *(module for module in [reader.modules.get(settings)] if module))
    notes += _variables(reader, loaded, known)
    if recipe.check.author is None:
        command = author_server.command(reader, app, str(changes["wsgi"]))
        changes["check"] = recipe.check.model_copy(update={"author": command})
        notes.append(f"check.author: {command} (the machine's pages are compared with those of this server)")
    if recipe.name is None:
        slug = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower())[:63].strip("-") or "app"
        changes["name"] = slug
        notes.append(f"name: {slug} (the folder's)")
    return Found(recipe.model_copy(update=changes), tuple(notes), _frameworks(reader, loaded))


def _packaged(recipe: Recipe, package: str) -> Found:
    """Return the recipe of an app that is a package on the index. The folder's files are not part of it."""
    if recipe.wsgi is None:
        raise NoAppError(
            f"app: {package} needs `wsgi`, because bake cannot detect it",
            "Add it to bake.yaml: `wsgi: module:callable`.",
        )
    more = recipe.requirements or ()
    if isinstance(more, str):
        raise RequirementError(
            f"app: {package}: `requirements` cannot be a file here", "Write them as a list: `requirements: [flask]`."
        )
    name = recipe.name or canonicalize_name(Requirement(package).name)
    check = recipe.check if recipe.check.author else recipe.check.model_copy(update={"author": author_server.PLAIN})
    changes = {"name": name, "requirements": (package, *more), "static": {}, "check": check}
    source = f"app: {package} from the package index; the folder's files are not in it"
    return Found(recipe.model_copy(update=changes), (source, *_exposed(recipe)))


def _exposed(recipe: Recipe) -> list[str]:
    """Return a note for each value in the recipe's `env` that looks like a secret."""
    note = "warning: env.{0} looks like a secret, and `env` becomes part of the image; write  secrets: [{0}]  instead"
    return [note.format(name) for name in secret_names.exposed(recipe.env)]


def _variables(reader: Reader, loaded: list[Module], known: set[str]) -> Iterator[str]:
    """Yield a note for each variable that the import of modules needs, and that is not `known`."""
    known = known | ALWAYS_SET
    known.update(name for module in reader.modules.values() for name in module.variables.set)
    for module in loaded:
        for name, line in module.variables.needed.items():
            if name not in known:
                known.add(name)
                key = f"secrets: [{name}]" if secret_names.may_be_secret(name) else f"env: {{{name}: …}}"
                yield f"warning: {module.path}:{line} needs the variable {name}; unless a launch sets it, write  {key}"


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
        lines = [f"{app.root.place}: to serve this one, write  wsgi: {app.wsgi}" for app in kept]
        raise SeveralAppsError(
            f"bake found {len(kept)} apps: {', '.join(app.wsgi for app in kept)}",
            "Add one of these lines to bake.yaml.",
            "\n".join(lines),
        )
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


def _named(reader: Reader, wsgi: str) -> App | None:
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


#: Frameworks by the first part of their modules' names. `paste` is in several distributions.
FRAMEWORKS = {maker.partition(".")[0] for maker in (*WSGI_MAKERS, *ASGI_MAKERS)} - {"paste"}


def _frameworks(reader: Reader, loaded: list[Module]) -> dict[str, str]:
    """Return the distributions of the frameworks that an app imports, each with the file that does."""
    found: dict[str, str] = {}
    outside = FRAMEWORKS - {name.partition(".")[0] for name in reader.modules}
    for module in loaded:
        for name in sorted(module.imported & outside):
            found.setdefault(canonicalize_name(DISTRIBUTIONS.get(name, name)), str(module.path))
    return found


def needed(reader: Reader) -> str | tuple[str, ...]:
    """Return the file that lists the app's requirements, or () if the app imports no other packages.

    Raises RequirementError with a proposed line for bake.yaml, made from the imports.
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
        f"{folder} has no requirements.txt or other file that lists the app's requirements",
        "bake made the line above from the app's imports. Check it and add it to bake.yaml, as `bake init` does. "
        "Or add a requirements.txt.",
        f"requirements: [{', '.join(proposed)}]",
    )


def _django(reader: Reader, recipe: Recipe, app: App | None, notes: list[str]) -> dict[str, object]:
    """Return the keys that prepare a Django project for production, and note them."""
    settings = _settings_module(reader, recipe, app)
    if settings is None:
        return {}
    assigned = _assigned(reader, settings)
    media = any(module.serves_media for module in reader.modules.values())
    notes.append(
        f"django: production settings based on {settings}: DEBUG off, ALLOWED_HOSTS from `domains`, static files "
        f"collected, SQLite file and MEDIA_ROOT in /var/lib/app{', uploads served at MEDIA_URL' if media else ''}; "
        "`django: off` uses yours unchanged"
    )
    words = [word for text in _strings(assigned.get("ALLOWED_HOSTS")) for word in re.split(r"[\s,]+", text) if word]
    hosts = [name for name in words if "." in name.strip(".") and name[0].isalpha()]
    if hosts and not recipe.domains:
        notes.append(
            f"domains: not set, so the site accepts any host name; ALLOWED_HOSTS suggests  domains: [{hosts[0]}]"
        )
    changes: dict[str, object] = {"django": Django(settings=settings, media=media)}
    key = {*_strings(assigned.get("SECRET_KEY"))}
    insecure = any(text.startswith("django-insecure-") for text in key)
    if insecure and key.isdisjoint({*recipe.env, *recipe.secrets}):
        changes["secrets"] = (*recipe.secrets, *({"SECRET_KEY"} - set(recipe.secrets)))
        notes.append("secrets: SECRET_KEY (the key in the settings is marked insecure)")
    return changes


def _settings_module(reader: Reader, recipe: Recipe, app: App | None) -> str | None:
    """Return the settings module of a Django project: that of the environment, or else of its WSGI module.

    In project templates, manage.py often names the settings for development and wsgi.py those for production.
    """
    served = [reader.modules.get((recipe.wsgi or "").partition(":")[0])]
    served += [app.module, app.root.module] if app else []
    modules = dict.fromkeys(module for module in (*served, *reader.modules.values()) if module)
    named = [recipe.env.get("DJANGO_SETTINGS_MODULE"), *(name for module in modules for name in module.settings)]
    return next((name for name in named if name in reader.modules), None)


def _strings(node: ast.expr | None) -> Iterator[str]:
    """Yield the strings of an expression that are not empty."""
    for part in ast.walk(node) if node else ():
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value:
            yield part.value


def _imports(reader: Reader, package: str) -> bool:
    """Return whether a module of the app imports a package."""
    return any(package in module.imported for module in reader.modules.values())


def _release(reader: Reader, django: object, notes: list[str]) -> tuple[str, ...]:
    """Return the commands that migrate an app's database, and note them."""
    steps: tuple[str, ...] = ()
    if isinstance(django, Django):
        steps = ("python -m django migrate --noinput",)
    elif (reader.folder / "migrations/env.py").is_file() and _imports(reader, "flask_migrate"):
        steps = ("flask db upgrade",)
    elif (reader.folder / "alembic.ini").is_file():
        notes.append("alembic.ini found: to migrate with each release, write  release: [alembic upgrade head]")
    if steps:
        notes.append(
            f"release: [{', '.join(steps)}] (once for each release, before it serves; `release: []` turns it off)"
        )
    return steps


def _assigned(reader: Reader, name: str) -> dict[str, ast.expr]:
    """Return the values of SETTINGS in a module, including those of modules that it imports with `import *`.

    Each module is read once. As in Python, a module in an import cycle provides only its assignments so far.
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
    """Return the recipe's writable paths and those that the app's code clearly writes, and note the latter.

    Exclude a path with files in the folder, except placeholders: on the machine, it would keep the files of the first
    release.
    """
    found: dict[str, str] = {}
    kept = [PurePosixPath(path) for path in recipe.writable.paths]
    instance = _imports(reader, "flask_sqlalchemy")
    for module in reader.modules.values():
        for write in module.writes:
            path = module.path.parent / write.path if write.beside else write.path
            if instance and not write.beside and not write.folder and write.path.suffix:
                # Flask-SQLAlchemy puts SQLite files with a relative path there.
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
    """Return whether a path is valid under `writable`."""
    with suppress(ValueError):
        return bool(field_types.inside(str(path)))
    return False


def _preload(reader: Reader, variables: set[str], notes: list[str]) -> bool:
    """Return whether the app generates a random secret key, unless one of `variables` sets it.

    Its workers must then share the key of one import. With different keys, sessions would end at random.
    """
    for module in reader.modules.values():
        for key in module.random_keys:
            if not key.strings & variables:
                notes.append(
                    f"preload: on ({module.path}:{key.line} generates a secret key at random, so all workers share one "
                    "import; each restart logs users out)"
                )
                return True
    return False


def _static(reader: Reader, app: App | None, notes: list[str]) -> dict[str, str]:
    """Return the folder that Flask itself would serve, by its URL prefix."""
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
    except ValueError:  # The folder is missing, or nginx cannot serve it. Flask still does.
        return {}
    notes.append(f"static: {prefix} from {path}/")
    return proposed or {}
