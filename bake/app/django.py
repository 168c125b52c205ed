"""Read a Django project's settings, and propose the keys that prepare it for production."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from bake.app import entry_evidence
from bake.app.name_resolution import App, Reader
from bake.app.python_files import SKIPPED_FOLDERS
from bake.app.requirements_files import PRODUCTION_NAMES
from bake.app.scopes import statements
from bake.app.session_keys import SessionKey, session_key
from bake.config import contract
from bake.config.recipe import Recipe
from bake.config.sections import Django
from bake.errors import NoAppError

#: The settings of a Django project that detection reads.
SETTINGS = {"ALLOWED_HOSTS", "SECRET_KEY", "INSTALLED_APPS", "MIDDLEWARE", "ASGI_APPLICATION"}
#: The last parts of the names of settings modules for development.
DEVELOPMENT = {"dev", "devel", "develop", "development", "local", "debug"}
#: The names of files that an installation copies to its settings: settings.py.example, settings_template.py.
EXAMPLE = re.compile(r"example|sample|template|dist\b|default")
#: The packages that serve a project through its asgi.py.
CHANNELS = {"channels", "daphne"}


def production_keys(reader: Reader, recipe: Recipe, app: App | None, notes: list[str]) -> dict[str, object]:
    """Return the keys that prepare a Django project for production, and note them."""
    settings, source = _settings_module(reader, recipe, app)
    if settings is None:
        _require_settings(reader, recipe, app)
        return {}
    package, _, name = settings.rpartition(".")
    others = (f"{package}.{other}".strip(".") for other in PRODUCTION_NAMES if name in DEVELOPMENT)
    if other := next((other for other in others if other in reader.modules), None):
        notes.append(
            f"warning: {settings} is for development; to use {other}, write  env: {{DJANGO_SETTINGS_MODULE: {other}}}"
        )
    values = _setting_values(reader, settings)
    media = any(module.serves_media for module in reader.modules.values())
    notes.append(
        f"django: production settings based on {settings}{source}: DEBUG off, ALLOWED_HOSTS from `domains`, static "
        f"files collected, SQLite file and MEDIA_ROOT in {contract.DATA}"
        f"{', uploads served at MEDIA_URL' if media else ''}; `django: off` uses yours unchanged"
    )
    words = [word for text in _strings(values.get("ALLOWED_HOSTS")) for word in re.split(r"[\s,]+", text) if word]
    hosts = [name for name in words if "." in name.strip(".") and name[0].isalpha()]
    if hosts and not recipe.domains:
        notes.append(
            f"domains: not set, so the site accepts any host name; ALLOWED_HOSTS suggests  domains: [{hosts[0]}]"
        )
    changes: dict[str, object] = {"django": Django(settings=settings, media=media)}
    return changes


def secret_keys(reader: Reader, settings: str) -> list[tuple[str, SessionKey]]:
    """Return the key that the settings module of a project has in the end, with the name of that module.

    The machine's variable SECRET_KEY replaces a key that Django itself marked as insecure.
    """
    value = _setting_values(reader, settings).get("SECRET_KEY") if settings in reader.modules else None
    if value is None:
        return []
    key = session_key("SECRET_KEY", value)
    if not key.variable and any(text.startswith("django-insecure-") for text in key.strings):
        key = replace(key, variable="SECRET_KEY")
    return [(settings, key)]


def installed_packages(reader: Reader) -> set[str]:
    """Return the packages in INSTALLED_APPS and MIDDLEWARE of the settings that the project's modules name."""
    settings = {name for module in reader.modules.values() for name in module.settings if name in reader.modules}
    values = [_setting_values(reader, name).get(key) for name in settings for key in ("INSTALLED_APPS", "MIDDLEWARE")]
    return {text.partition(".")[0] for value in values for text in _strings(value)}


def channels_app(reader: Reader) -> tuple[str, str, str] | None:
    """Return the ASGI app of a project that uses Channels: its module, its name, and the file of the settings."""
    names = dict.fromkeys(name for module in reader.modules.values() for name in module.settings)
    for settings in (name for name in names if name in reader.modules):
        values = _setting_values(reader, settings)
        module, _, name = next(_strings(values.get("ASGI_APPLICATION")), "").rpartition(".")
        is_imported = any(CHANNELS & module.imported_packages for module in reader.modules.values())
        if CHANNELS & {*_strings(values.get("INSTALLED_APPS"))} or (module and is_imported):
            asgi_modules = (name for name in reader.modules if name.rpartition(".")[2] == "asgi")
            module = module or next(asgi_modules, "")
            return (module, name or "application", str(reader.modules[settings].path)) if module else None
    return None


def _settings_module(reader: Reader, recipe: Recipe, app: App | None) -> tuple[str | None, str]:
    """Return the settings module of a Django project, and the file that decided, as a suffix for a note.

    It is that of the environment, of a file for another host, or else of its WSGI module. In project templates,
    manage.py often names the settings for development and wsgi.py those for production.
    """
    name = recipe.env.get("DJANGO_SETTINGS_MODULE")
    if name in reader.modules:
        return name, ""
    for file, name in entry_evidence.django_settings(reader.folder):
        if name in reader.modules:
            return name, f" ({file})"
    candidates = [reader.modules.get((recipe.entry or "").partition(":")[0])]
    candidates += [app.module, app.root.module] if app else []
    modules = dict.fromkeys(module for module in (*candidates, *reader.modules.values()) if module)
    names = (name for module in modules for name in module.settings)
    return next((name for name in names if name in reader.modules), None), ""


def _require_settings(reader: Reader, recipe: Recipe, app: App | None) -> None:
    """Raise NoAppError if the app's module names settings in a package of the folder that the release does not have."""
    modules = [app.module, app.root.module] if app and "DJANGO_SETTINGS_MODULE" not in recipe.env else []
    for module in modules:
        for name in module.settings[-1:]:
            path = PurePosixPath(*name.split("."))
            folders = [
                folder for root in ("", *reader.roots) if (folder := reader.folder / root / path.parent).is_dir()
            ]
            if folders and not (folders[0] / path.name).is_dir() and path.parts[0] not in SKIPPED_FOLDERS:
                raise _missing_settings(
                    reader, f"{module.path} sets DJANGO_SETTINGS_MODULE to {name}", folders[0], path
                )


def _missing_settings(reader: Reader, reason: str, folder: Path, path: PurePosixPath) -> NoAppError:
    """Return the error for settings that are missing in a folder, or that an ignore file excludes."""
    place = folder.relative_to(reader.folder) / f"{path.name}.py"
    if (reader.folder / place).exists():
        return NoAppError(
            f"{reason}, and an ignore file excludes {place}",
            f"Add the line `!/{place}` to .bakeignore, and keep secrets out of the file (`secrets` in bake.yaml).",
        )
    names = sorted(file.name for file in folder.iterdir() if EXAMPLE.search(file.name.removeprefix(path.name)))
    examples = [name for name in names if name.startswith(path.name)] or names
    copy = f"Copy {place.with_name(examples[0])} to {place}, and adapt it" if examples else f"Create {place}"
    return NoAppError(
        f"{reason}, and {place} does not exist",
        f"{copy}. Or name other settings in bake.yaml: `env: {{DJANGO_SETTINGS_MODULE: …}}`.",
    )


def _strings(node: ast.expr | None) -> Iterator[str]:
    """Yield the strings of an expression that are not empty."""
    for part in ast.walk(node) if node else ():
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value:
            yield part.value


def _setting_values(reader: Reader, name: str) -> dict[str, ast.expr]:
    """Return the values of SETTINGS in a module, including those of modules that it imports with `import *`.

    Each module is read once. As in Python, a module in an import cycle provides only its assignments so far.
    """
    if name in reader.django_settings:
        return reader.django_settings[name]
    values: dict[str, dict[str, ast.expr]] = {name: {}}
    stack = [(name, _settings_statements(reader, name))]
    while stack:
        current, pending = stack[-1]
        statement = next(pending, None)
        if statement is None:
            stack.pop()
            if stack:
                values[stack[-1][0]] |= values[current]
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            values[current] |= dict.fromkeys(names & SETTINGS, statement.value)
        elif isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            origin = reader.modules[current].absolute(statement)
            if origin in values:
                values[current] |= values[origin]
            elif origin in reader.modules:
                values[origin] = {}
                stack.append((origin, _settings_statements(reader, origin)))
    reader.django_settings[name] = values[name]
    return values[name]


def _settings_statements(reader: Reader, name: str) -> Iterator[ast.stmt]:
    return (statement for statement, _ in statements(reader.tree(reader.modules[name]).body))
