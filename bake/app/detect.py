"""Read an app's folder and propose the missing parts of its recipe."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bake.app import (
    author_server,
    background_services,
    config_modules,
    import_roots,
    needed_variables,
    node_build,
    own_server,
    procfile,
    python_files,
    removed_modules,
    server_name,
    server_notes,
    table_commands,
    table_scripts,
    websockets,
    wsgi_server,
)
from bake.app.distributions import distribution, requirement
from bake.app.django import installed_packages, production_keys, secret_keys
from bake.app.entry import Entry, find, named_app
from bake.app.frameworks import FRAMEWORKS
from bake.app.name_resolution import App, PortableModules, Reader
from bake.app.names import dotted_name
from bake.app.requirements_files import file_above, files_of_setup, requirements_file
from bake.app.scopes import Module
from bake.app.session_keys import OWN_KEY, SessionKey
from bake.config import contract, field_types, secret_names
from bake.config.recipe import Recipe
from bake.config.sections import Django, Process, Writable
from bake.errors import NoAppError, RequirementError

#: The maximum number of files that bake did not read, and that it names.
MAX_UNREAD_NOTES = 5


@dataclass(frozen=True)
class Detection:
    """A complete recipe, and notes about the keys that bake detected."""

    recipe: Recipe
    notes: tuple[str, ...]
    #: The frameworks that the app imports: the distribution of each, and the file with the import.
    frameworks: Mapping[str, str] = field(default_factory=dict)


def complete(folder: Path, recipe: Recipe, portable: PortableModules | None = None) -> Detection:
    """Detect the keys that the recipe does not set, and return the complete recipe.

    `portable` are modules that bake has read for another target, and gets those that it reads now.
    Raises AppFolderError, AppSyntaxError, NoAppError, SeveralAppsError, AsgiAppError, RequirementError.
    """
    if recipe.package:
        return _complete_package(recipe, recipe.package)
    reader = Reader(folder, recipe.target.python, portable)
    reader.requirements = recipe.requirements
    notes = _secret_notes(recipe)
    if recipe.run:
        entry = Entry(recipe.run, run=True)
    elif recipe.entry:
        key = "asgi" if recipe.asgi else "wsgi"
        entry = Entry(recipe.entry, named_app(reader, recipe.entry, key), asgi=key == "asgi")
    else:
        entry = find(reader, notes)
        notes.insert(0, entry.note)
        if entry.run:
            port = own_server.port(reader, entry.target)
            notes += [f"port: {port} (the program's own)"] if port else []
            recipe = recipe.model_copy(update={"run": entry.target, "port": port})
    recipe = websockets.complete(reader, entry, recipe, notes)
    if entry.key == "wsgi":
        recipe = wsgi_server.for_python(recipe, notes)
    app = entry.app
    modules = reader.import_closure(app.module, app.root.module) if app else []
    modules = own_server.modules(reader, recipe.run) if recipe.run else modules
    if named_modules := [*config_modules.find(reader, modules, entry.target)]:
        modules = reader.import_closure(*modules, *named_modules)
    _check_imports(reader, modules, notes if recipe.entry else None)
    removed_modules.require_none(reader, modules)
    changes: dict[str, object] = {entry.key: entry.target}
    notes += _unread_notes(reader)
    if recipe.requirements is None:
        changes["requirements"] = detect_requirements(reader, app)
        notes.append(f"requirements: {changes['requirements'] or 'none, because the app imports no other packages'}")
    if recipe.static is None:
        changes["static"] = _static(reader, app, recipe, notes)
    if recipe.assets is None:
        notes += node_build.notes(reader.folder)
    if recipe.django is None:
        changes |= production_keys(reader, recipe, app, notes)
    if recipe.processes is None:
        changes["processes"] = _processes(reader.folder, notes)
    notes += [each.note for each in background_services.proposals(reader, recipe.model_copy(update=changes))]
    if recipe.release is None:
        changes["release"] = _release(reader, recipe.model_copy(update=changes), modules, entry.target, notes)
    if recipe.writable.observe:
        changes["writable"] = _writable(reader, recipe, notes)
    settings = getattr(changes.get("django", recipe.django), "settings", "")
    if settings_module := reader.modules.get(settings):
        modules = sorted({*modules, *reader.import_closure(settings_module)}, key=lambda module: module.path)
    if recipe.random_secrets is None:
        keys = [(f"{module.path}:{key.line}", key) for module in modules for key in module.session_keys]
        changes["random_secrets"] = _random_secrets(secret_keys(reader, settings) if settings else keys, recipe, notes)
    variables = {*recipe.env, *recipe.secrets, *(recipe.model_copy(update=changes).random_secrets or ())}
    if recipe.preload is None and not recipe.run:
        changes["preload"] = _preload(reader, variables, notes)
    python_files.require_valid(
        {module.path: reader.faults[module.path] for module in modules if module.path in reader.faults}
    )
    notes += needed_variables.notes(reader, modules, app, {*variables, "PORT"} if recipe.run else variables)
    notes += [*config_modules.notes(reader, entry.target), *server_name.notes(reader, modules, variables)]
    notes += server_notes.of(reader, modules, entry, recipe)
    if recipe.check.author is None:
        command = author_server.command(reader, app, entry)
        changes["check"] = recipe.check.model_copy(update={"author": command})
        notes.append(
            f"check.author: {command} (where bake makes an image, it compares the pages with those of this server)"
        )
    if recipe.name is None:
        slug = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower())[:63].strip("-") or "app"
        changes["name"] = slug
        notes.append(f"name: {slug} (the folder's)")
    return Detection(recipe.model_copy(update=changes), tuple(notes), _frameworks(reader, modules))


def _complete_package(recipe: Recipe, package: str) -> Detection:
    """Return the recipe of an app that is a package on the index. The folder's files are not part of it."""
    if recipe.entry is None:
        raise NoAppError(
            f"app: {package} needs `wsgi`, `asgi` or `run`, because bake cannot detect it",
            "Add it to bake.yaml: `wsgi: module:callable`.",
        )
    requirements = recipe.requirements or ()
    if isinstance(requirements, str):
        raise RequirementError(
            f"app: {package}: `requirements` cannot be a file here", "Write them as a list: `requirements: [flask]`."
        )
    name = recipe.name or canonicalize_name(Requirement(package).name)
    author = author_server.asgi_command(recipe.asgi) or "off" if recipe.asgi else author_server.PLAIN
    author = author_server.run_command(recipe.run) if recipe.run else author
    check = recipe.check if recipe.check.author else recipe.check.model_copy(update={"author": author})
    changes = {"name": name, "requirements": (package, *requirements), "static": {}, "check": check}
    notes = [f"app: {package} from the package index; the folder's files are not in it", *_secret_notes(recipe)]
    if recipe.wsgi:
        recipe = wsgi_server.for_python(recipe, notes)
    return Detection(recipe.model_copy(update=changes), tuple(notes))


def _unread_notes(reader: Reader) -> list[str]:
    """Return a note for each of the first files that bake did not read, and one for the others."""
    modules = [module for module in reader.modules.values() if module.skip_reason]
    notes = [f"not read: {module.path} ({module.skip_reason})" for module in modules[:MAX_UNREAD_NOTES]]
    count = len(modules) - len(notes)
    return [*notes, f"not read: {count} more files"] if count else notes


def _secret_notes(recipe: Recipe) -> list[str]:
    """Return a note for each value in the recipe's `env` that looks like a secret."""
    note = "warning: env.{0} looks like a secret, and `env` becomes part of the image; write  secrets: [{0}]  instead"
    return [note.format(name) for name in secret_names.exposed_secrets(recipe.env)]


def _frameworks(reader: Reader, modules: list[Module]) -> dict[str, str]:
    """Return the distributions of the frameworks that an app imports, each with the file that imports it."""
    files: dict[str, str] = {}
    frameworks = FRAMEWORKS - {name.partition(".")[0] for name in reader.modules}
    for module in modules:
        for name in sorted(module.imported_packages & frameworks):
            files.setdefault(canonicalize_name(distribution(name) or name), str(module.path))
    return files


def _check_imports(reader: Reader, modules: list[Module], notes: list[str] | None) -> None:
    """Raise NoAppError if modules' imports resolve only from another folder. With `notes`, add a warning instead."""
    if fault := import_roots.flat_import(reader, modules) or import_roots.package_import(reader, modules):
        if notes is None:
            raise NoAppError(fault.message(), fault.hint(reader))
        notes.append(f"warning: {fault.message()}")


def detect_requirements(reader: Reader, app: App | None = None) -> str | tuple[str, ...]:
    """Return the file that lists the app's requirements, or () if the app imports no other packages.

    The app's own subfolder may have it, too. Raises RequirementError with a proposed line for bake.yaml, made from the
    imports.
    """
    for parent in [PurePosixPath(), *(app.root.module.path.parents if app else ())]:
        if file := requirements_file(reader.folder / parent):
            return str(parent / file)
    proposal, unknown_names = proposed_requirements(reader)
    if not proposal and not unknown_names:
        return ()
    hint = (
        "bake proposes the line above, made from the app's imports. Check it and add it to bake.yaml, as `bake init` "
        "does. Or add a requirements.txt."
    )
    if unknown_names:
        hint += f" bake does not know which packages contain {', '.join(unknown_names)}."
    lines = [f"requirements: [{', '.join(proposal)}]"]
    files = [path.relative_to(reader.folder).as_posix() for path in reader.folder.glob("[!.]*/requirements.txt")]
    files += files_of_setup(reader.folder)
    above = file_above(reader.folder, reader.imported_packages)
    if files := [*([above] if above else []), *sorted(files)]:
        lines = [*(f"requirements: {file}" for file in files), *lines]
        hint = f"If one of the files above lists the app's requirements, add its line to bake.yaml. Otherwise: {hint}"
    raise RequirementError(unlisted(reader.folder), hint, "\n".join(lines))


def unlisted(folder: Path) -> str:
    """Return the message about a folder without a file that lists the app's requirements."""
    return f"{folder} has no requirements.txt or other file that lists the app's requirements"


def proposed_requirements(reader: Reader) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the distributions of the packages that the app imports, and the packages that bake does not know.

    Neither contains the app's own modules or those of Python's library.
    """
    own_names = {name.partition(".")[0] for name in reader.modules} | {
        path.name for path in reader.folder.iterdir() if path.is_dir()
    }
    imported_names = reader.imported_packages | installed_packages(reader)
    packages = imported_names - own_names - set(sys.stdlib_module_names)
    distributions = {name: requirement(name) for name in packages}
    own_parts = {part for name in reader.modules for part in name.split(".")}
    unknown_names = {name for name, known_name in distributions.items() if known_name is None} - own_parts
    return tuple(sorted(filter(None, distributions.values()))), tuple(sorted(unknown_names))


def _imports(reader: Reader, package: str) -> bool:
    """Return whether a module of the app imports a package."""
    return any(package in module.imported_packages for module in reader.modules.values())


def _release(
    reader: Reader, recipe: Recipe, modules: list[Module], target: str, notes: list[str]
) -> tuple[str, ...]:  # fmt: skip
    """Return the commands that migrate an app's database, and note them."""
    once = "once for each release, before it serves; `release: []` turns it off"
    if commands := procfile.release(reader.folder, notes):
        notes.append(f"release: [{commands[0]}] (from the {procfile.NAME}; {once})")
        return commands
    if isinstance(recipe.django, Django):
        commands = ("python -m django migrate --noinput",)
    elif (reader.folder / "migrations/env.py").is_file() and _imports(reader, "flask_migrate"):
        commands = ("flask db upgrade",)
    elif (reader.folder / "alembic.ini").is_file():
        notes.append("alembic.ini found: to migrate with each release, write  release: [alembic upgrade head]")
    else:
        creators = table_commands.find(reader) if _imports(reader, "flask") else []
        creators += table_scripts.find(reader, modules, recipe, target)
        notes += map(table_commands.note, creators)
    if commands:
        notes.append(f"release: [{', '.join(commands)}] ({once})")
    return commands


def _processes(folder: Path, notes: list[str]) -> dict[str, Process]:
    """Return the programs beside the site that the Procfile names, and note them."""
    commands = procfile.processes(folder, notes)
    notes += (f"processes: {{{name}: {command}}} (from the {procfile.NAME})" for name, command in commands.items())
    return {name: Process(run=command) for name, command in commands.items()}


def _writable(reader: Reader, recipe: Recipe, notes: list[str]) -> Writable:
    """Return the recipe's writable paths and those that the app's code clearly writes, and note the latter.

    Exclude a path with files in the folder, except placeholders: on the machine, it would keep the files of the first
    release.
    """
    writers: dict[str, str] = {}
    paths = [PurePosixPath(path) for path in recipe.writable.paths]
    uses_instance_folder = _imports(reader, "flask_sqlalchemy")
    for module in reader.modules.values():
        for write in module.writes:
            path = module.path.parent / write.path if write.is_module_relative else write.path
            if uses_instance_folder and not write.is_module_relative and not write.is_folder and write.path.suffix:
                # Flask-SQLAlchemy puts SQLite files with a relative path there.
                path = PurePosixPath("instance")
            if not any(path == other or path in other.parents or other in path.parents for other in paths):
                source = reader.folder / path
                files = source.rglob("*") if source.is_dir() else [source] * source.exists()
                if all(file.is_dir() or file.name.startswith(".") for file in files) and _is_inside(path):
                    paths.append(path)
                    writers[str(path)] = str(module.path)
    notes += (
        f"writable: {path} is kept in {contract.DATA} ({module_path} writes it)"
        for path, module_path in writers.items()
    )
    return recipe.writable.model_copy(update={"paths": (*recipe.writable.paths, *writers)})


def _is_inside(path: PurePosixPath) -> bool:
    """Return whether a path is valid under `writable`."""
    with suppress(ValueError):
        return bool(field_types.inner_path(str(path)))
    return False


def _random_secrets(keys: list[tuple[str, SessionKey]], recipe: Recipe, notes: list[str]) -> tuple[str, ...]:
    """Return the variables of keys that sign sessions, unless the recipe sets them, and note them.

    `keys` have their locations.
    """
    names = {*recipe.env, *recipe.secrets}
    results: list[str] = []
    # A key in the source does not matter where a variable has another one.
    for location, key in sorted(keys, key=lambda entry: not entry[1].variable):
        if key.strings & names or key.variable in names:
            continue
        if key.variable:
            names.add(key.variable)
            results.append(key.variable)
            notes.append(f"random_secrets: {key.variable} ({location}: each machine generates its own session key)")
        elif key.literal and not any(map(OWN_KEY.fullmatch, names)):
            notes.append(
                f"warning: {location} has the session key, and anyone with the source can log in as any user; write  "
                'os.environ["SECRET_KEY"]  there'
            )
    return tuple(results)


def _preload(reader: Reader, variables: set[str], notes: list[str]) -> bool:
    """Return whether the app generates a random secret key, unless one of `variables` sets it.

    Its workers must then share the key of one import. With different keys, sessions would end at random.
    """
    for module in reader.modules.values():
        for key in module.session_keys:
            if key.random and not key.strings & variables:
                notes.append(
                    f"preload: on ({module.path}:{key.line} generates a secret key at random, so all workers share one "
                    "import; each restart logs users out)"
                )
                return True
    return False


def _static(reader: Reader, app: App | None, recipe: Recipe, notes: list[str]) -> dict[str, str]:
    """Return the folder that Flask itself would serve, by its URL prefix."""
    call = app.root.call if app else None
    if app is None or call is None or not dotted_name(call.func).endswith("Flask"):
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
        keys = {"assets": recipe.assets, "static": {prefix: path}}
        static = Recipe.model_validate(keys, context={"folder": reader.folder}).static
    except ValueError:  # The folder is missing, or nginx cannot serve it. Flask still does.
        return {}
    notes.append(f"static: {prefix} from {path}/")
    return static or {}
