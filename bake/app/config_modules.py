"""Find the modules of an app that only a text names: app.config.from_object("shop.config.Production")."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from bake.app.name_resolution import Reader
from bake.app.names import last_name
from bake.app.scopes import Module

#: Flask's method that imports the object with a dotted name.
LOADER = "from_object"
#: A class for development in a text: shop.settings.DevConfig.
DEVELOPMENT = re.compile(r"['\"]([\w.]+)\.(Dev|Development|Debug|Local)((?:[A-Z]\w*)?)['\"]")


def find(reader: Reader, modules: Iterable[Module], target: str) -> Iterator[Module]:
    """Yield those that `modules` load by name, or that the arguments of the factory in `target` name."""
    for module in modules:
        if any(name.rpartition(".")[2] == LOADER for name in module.calls):
            for node in ast.walk(reader.tree(module)):
                if isinstance(node, ast.Call) and last_name(node.func) == LOADER:
                    yield from _named(reader, node)
    expression = target.partition(":")[2]
    if "(" in expression:
        yield from _named(reader, ast.parse(expression, mode="eval"))


def notes(reader: Reader, target: str) -> Iterator[str]:
    """Yield a warning for a class for development in the arguments of the factory in `target`."""
    for module, kind, rest in DEVELOPMENT.findall(target):
        names = reader.modules[module].scope.names if module in reader.modules else {}
        for name in (f"Prod{rest}", f"Production{rest}"):
            if name in names:
                other = target.replace(f"{module}.{kind}{rest}", f"{module}.{name}")
                yield f'warning: {kind}{rest} is for development; to use {name}, write  wsgi: "{other}"'


def _named(reader: Reader, node: ast.AST) -> Iterator[Module]:
    """Yield the app's modules that the texts in an expression name, with or without the name of an object in them."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            names = (part.value, part.value.rpartition(".")[0])
            yield from (reader.modules[name] for name in names if name in reader.modules)
