"""Find the folder from which an app's imports resolve, if it is not the folder that bake reads."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath

from bake.app import python_files, variables
from bake.app.distributions import distribution
from bake.app.name_resolution import USUAL_FACTORIES, Reader
from bake.app.requirements_files import lacks_package, requirement_lines, requirements_file
from bake.app.scopes import Function, FunctionScope, Module
from bake.config.debian import DEBIAN_13
from bake.errors import BakeError, RequirementError

#: Folders on the machine's sys.path: `uwsgi.ini` and `app-job@.service` add them.
MACHINE_ROOTS = {"src"}
#: The maximum depth of other folders with apps, and the maximum number of them to read.
MAX_DEPTH = 3
MAX_FOLDERS = 20


@dataclass(frozen=True)
class FlatImport:
    """An import that Python resolves only from a subfolder: `text` describes it, with its location."""

    text: str
    folder: PurePosixPath
    #: The import to write instead, if the folder is a package.
    correction: str = ""

    def message(self) -> str:
        """Return the message about the import."""
        return f"{self.text}, which Python finds only from the folder {self.folder}"

    def hint(self, reader: Reader) -> str:
        """Return the next step for the app."""
        folder = reader.folder
        if self.correction:
            return f"Python 3 does not search a package's own folder: write `{self.correction}`."
        requirements = ""
        with suppress(RequirementError):
            file = "" if requirements_file(folder / self.folder) else requirements_file(folder)
            modules = (module for module in reader.files if self.folder in module.path.parents)
            packages = {name for module in modules for name in module.imported_packages} - {self.folder.parts[0]}
            if file and not lacks_package(folder / file, packages):
                line = f"requirements: {'../' * len(self.folder.parts)}{file}"
                requirements = f", with a bake.yaml in it that has the line `{line}`"
        return (
            f"Bake that folder: {folder / self.folder}{requirements}. If the import does resolve, set `wsgi` in "
            "bake.yaml."
        )


@dataclass(frozen=True)
class PackageImport:
    """An import for which the app's folder itself must be a package: `text` describes it, with its location."""

    text: str

    def message(self) -> str:
        """Return the message about the import."""
        return f"{self.text}, so the app's folder is itself a package, which Python finds only from the folder above"

    def hint(self, reader: Reader) -> str:
        """Return the next step for the app."""
        path = reader.folder.resolve()
        is_project = any((path.parent / file).is_file() for file in ("manage.py", "requirements.txt", "pyproject.toml"))
        move = "" if is_project else " If it contains more, move the package into a new one."
        rename = "" if path.name.isidentifier() else f" Rename {path.name} so that an import can contain its name."
        return f"Bake the folder above: {path.parent}.{move}{rename}"


def package_import(reader: Reader, modules: Iterable[Module]) -> PackageImport | None:
    """Return the first import in these modules that needs the app's folder as a package, or None."""
    name = reader.folder.resolve().name
    is_package = name not in reader.modules and (reader.folder / "__init__.py").is_file()
    for module in modules:
        for settings in module.settings:
            top, _, rest = settings.partition(".")
            if top == name and settings not in reader.modules and rest in reader.modules:
                return PackageImport(f"{module.path} sets DJANGO_SETTINGS_MODULE to {settings}")
        depth = 0 if module.name == "__init__" else len(module.name.split(".")) - (module.path.name != "__init__.py")
        body = reader.tree(module).body
        factories = (node for node in body if isinstance(node, Function) and node.name in USUAL_FACTORIES)
        for part in (body, *(factory.body for factory in factories)):
            for statement in variables.unconditional(part):
                origins = [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []
                if isinstance(statement, ast.ImportFrom):
                    origins = ["." * statement.level + (statement.module or "")]
                    if statement.level > depth:
                        return PackageImport(f"{module.path}:{statement.lineno} imports from {origins[0]}")
                if is_package and name in (origin.partition(".")[0] for origin in origins):
                    return PackageImport(f"{module.path}:{statement.lineno} imports {name}")
    return None


def flat_import(reader: Reader, modules: Iterable[Module]) -> FlatImport | None:
    """Return the first import in these modules that resolves only from a subfolder, or None."""
    known_names = {name.partition(".")[0] for name in reader.modules} | sys.stdlib_module_names
    paths = {module.path for module in reader.modules.values()}
    folders = {parent for path in paths for parent in path.parents}
    # Few apps ask for them, which reads a file, and some ask for each import.
    listed_names = cache(partial(required_names, reader))
    # Packages that the app also imports by their own names, so that their folder cannot be the app's.
    origins = {origin for module in reader.modules.values() for origin in module.scope.imports.values()}
    known_packages = {".".join(origin.split(".")[:length]) for origin in origins for length in (1, 2, 3)}
    for module in modules:
        for line, origin in _imports(module):
            name, folder = origin.partition(".")[0], PurePosixPath(module.path.parts[0])
            # The installed package comes before a folder without __init__.py, so Python does not find the app in it.
            if name == str(folder) and origin not in reader.modules and _is_shadowed(reader, origin):
                return FlatImport(f"{module.path}:{line} imports {name}", folder)
        for parent in _subfolders(module):
            for line, origin in _imports(module):
                name = origin.partition(".")[0]
                file = parent / f"{name}.py"
                is_own = (file in paths and file != module.path) or parent / name in folders
                # A module may have the name of a package that it uses: shop/celery.py.
                is_package = name in known_names or distribution(name)
                if is_own and not is_package and name.lower() not in listed_names():
                    package = ".".join(parent.parts)
                    correction = f"from {package}.{name} import …" * (package in known_packages)
                    return FlatImport(f"{module.path}:{line} imports {name}", parent, correction)
            for name in module.settings:
                path = parent.joinpath(*name.split("."))
                package = name.partition(".")[0]
                is_below = {path.with_suffix(".py"), path / "__init__.py"} & paths or (
                    parent / package in folders and package not in known_names
                )
                if name not in reader.modules and is_below:
                    return FlatImport(f"{module.path} sets DJANGO_SETTINGS_MODULE to {name}", parent)
    return None


def _is_shadowed(reader: Reader, origin: str) -> bool:
    """Return whether a dotted name refers to an installed package, although a folder of the app has its name."""
    package, parent = origin.partition(".")[0], origin.rpartition(".")[0]
    return bool(distribution(package)) and not {package, parent} & reader.modules.keys()


def _imports(module: Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of each import of a module, and of its functions that create the app."""
    factories = (binding.value for name in USUAL_FACTORIES for binding in module.scope.names.get(name, ()))
    for scope in (module.scope, *(value for value in factories if isinstance(value, FunctionScope))):
        for alias, origin in scope.imports.items():
            yield (scope.names[alias][-1].line if alias in scope.names else 1), origin


def _subfolders(module: Module) -> list[PurePosixPath]:
    """Return the folders of a module below the folders that the machine's Python searches."""
    return [path for path in module.path.parents if path.parts and str(path) not in MACHINE_ROOTS]


def required_names(reader: Reader) -> set[str]:
    """Return the names in the app's requirements, with `_` for `-`. Their faults are reported later."""
    with suppress(BakeError, OSError):
        source = requirements_file(reader.folder) if reader.requirements is None else reader.requirements
        lines = requirement_lines(reader.folder, source, DEBIAN_13) if source else []
        return {line.name.replace("-", "_") for line in lines if not line.constraint}
    return set()


def other_folders(folder: Path) -> Iterator[str]:
    """Yield the subfolders with an app that bake did not read, because their names cannot be in an import."""
    count = 0
    for root, names, _ in os.walk(folder):
        depth = len(Path(root).relative_to(folder).parts)
        names[:] = sorted(
            name for name in names if depth < MAX_DEPTH and name[0] != "." and name not in python_files.SKIPPED_FOLDERS
        )
        for name in [name for name in names if not name.isidentifier()]:
            names.remove(name)
            path, count = Path(root) / name, count + 1
            if count <= MAX_FOLDERS and not (path / "pyvenv.cfg").exists():
                with suppress(BakeError):
                    if Reader(path, (3, 13)).apps:
                        yield path.relative_to(folder).as_posix()
