"""Name the variables that an app needs to start, and those that its example of a .env lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from bake.app import ignore, variables
from bake.app.env_readers import EnvReader
from bake.app.name_resolution import App, Reader
from bake.app.scopes import Function, Module
from bake.config import secret_names
from bake.host import foreign_text

#: Files that list the variables of an app for its next author, without its secrets.
EXAMPLES = (
    ".env.example", ".env.sample", ".env.template", ".env.dist", ".env-example", ".env_example", "env.example",
    "example.env", "sample.env",
)  # fmt: skip
MAX_CHARACTERS = 2**16
#: The maximum number of imports from the use of an object to the module that creates it.
MAX_IMPORTS = 5
LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=[ \t]*(\"[^\"\n]*\"|'[^'\n]*'|[^#\n]*)", re.M)
#: Values that stand for one that each installation chooses.
PLACEHOLDER = re.compile(r"|.*(<.*>|\.\.\.|…|x{3}|change|your|replace|secret|todo|to.?be|generate).*", re.I)


def examples(folder: Path) -> dict[str, str]:
    """Return the values in the first of EXAMPLES in a folder, by the names of the variables."""
    for name in EXAMPLES:
        with suppress(OSError):
            text = foreign_text.read(folder / name, "replace")[:MAX_CHARACTERS]
            lines = {match[1]: match[2].strip().strip("\"'") for match in LINE.finditer(text)}
            return {name: value for name, value in lines.items() if name not in variables.ALWAYS_SET}
    return {}


def is_secret(name: str, values: Mapping[str, str]) -> bool:
    """Return whether a variable has a secret: by its name, or because the example has no value for it."""
    return secret_names.may_be_secret(name) or bool(name in values and PLACEHOLDER.fullmatch(values[name]))


def notes(reader: Reader, modules: Iterable[Module], app: App | None, defined_names: set[str]) -> Iterator[str]:
    """Yield a note for each variable without which the app does not load, and that is not one of `defined_names`.

    `modules` are those that it imports.
    """
    defined_names = defined_names | variables.ALWAYS_SET
    defined_names.update(name for module in reader.modules.values() for name in module.variables.assigned_names)
    modules = list(modules)
    defined_names.update(_loaded_names(reader, modules))
    values = examples(reader.folder)
    reads = [(module, _reads(reader, module, module.variables)) for module in modules]
    reads += _factory_reads(reader, app) if app else []
    for module, lines in reads:
        for name, line in lines.items():
            if name not in defined_names:
                defined_names.add(name)
                value = json.dumps(values[name], ensure_ascii=False) if values.get(name) else "…"
                key = f"secrets: [{name}]" if is_secret(name, values) else f"env: {{{name}: {value}}}"
                yield f"warning: {module.path}:{line} needs the variable {name}; unless a launch sets it, write  {key}"


def _factory_reads(reader: Reader, app: App) -> list[tuple[Module, dict[str, int]]]:
    """Return the variables that the function needs which creates the app."""
    module, call = app.root.module, app.root.call
    for node in reader.tree(module).body if call else ():
        if isinstance(node, Function) and call and node.lineno <= call.lineno <= (node.end_lineno or 0):
            inner_variables = variables.find(node.body, module.scope.imports, module.variables.readers)
            return [(module, _reads(reader, module, inner_variables))]
    return []


def _reads(reader: Reader, module: Module, own_variables: variables.Variables) -> dict[str, int]:
    """Return the variables that statements of a module need, also those that they read with an object of another one.

    As in settings for production: `from .base import env`.
    """
    reads = dict(own_variables.reads)
    for name, method, call in own_variables.imported_calls:
        env_reader = _imported_reader(reader, module, name)
        variable = env_reader.required_name(call, method) if env_reader else ""
        if variable:
            reads.setdefault(variable, call.lineno)
    return reads


def _imported_reader(reader: Reader, module: Module, name: str) -> EnvReader | None:
    """Return the object that reads variables, and that a name in a module refers to in another module, or None."""
    for _ in range(MAX_IMPORTS):
        imports = module.scope.imports
        origin = imports.get(name) or imports.get("*", "").removesuffix("*") + name
        module_name, _, name = origin.rpartition(".")
        if module_name not in reader.modules:
            return None
        module = reader.modules[module_name]
        if name in module.variables.readers:
            return module.variables.readers[name]
    return None


def _loaded_names(reader: Reader, modules: list[Module]) -> set[str]:
    """Return the variables in the files that python-decouple and others load, if the release has these files."""
    folders = {reader.folder / parent for module in modules for parent in module.path.parents}
    paths = [folder / ".env" for folder in folders if ignore.allows(reader.folder, folder / ".env")]
    if any("decouple" in module.imported_packages for module in modules):
        paths += (folder / "settings.ini" for folder in folders)
    names = set[str]()
    for path in paths:
        with suppress(OSError):
            text = foreign_text.read(path, "replace")[:MAX_CHARACTERS]
            names.update(match[1] for match in LINE.finditer(text))
    return names
