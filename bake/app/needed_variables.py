"""Name the variables that an app needs to start, and those that its example of a .env lists."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from bake.app import variables
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
    values = examples(reader.folder)
    reads = [(module, module.variables.reads) for module in modules]
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
            return [(module, variables.find(ast.Module(node.body, [])).reads)]
    return []
