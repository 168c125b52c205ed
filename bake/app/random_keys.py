"""Find the secret keys that a module generates at random. Each process that loads the app generates a different one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

#: Names of keys that sign sessions in Flask, Django and their extensions.
KEY = re.compile(r"(\w+_)?SECRET(_KEY)?|secret_key|cookie_secret")
#: The last parts of the dotted names of functions that return random values.
MAKERS = ("urandom", "token_bytes", "token_hex", "token_urlsafe", "uuid4", "get_random_secret_key", "generate_key")


@dataclass(frozen=True)
class RandomKey:
    """A random key: its line, and the strings in its expression, such as the name in `os.environ.get("KEY", …)`."""

    line: int
    strings: frozenset[str]


def find(tree: ast.Module) -> Iterator[RandomKey]:
    """Yield the random keys of a module. Skip local variables of functions, which may be tokens of visitors."""
    values = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    pending: list[tuple[ast.AST, bool]] = [(tree, False)]
    while pending:
        node, in_function = pending.pop()
        in_function |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        pending += [(child, in_function) for child in ast.iter_child_nodes(node)]
        for name, value in _assignments(node, in_function):
            if KEY.fullmatch(name):
                value = values.get(value.id, value) if isinstance(value, ast.Name) else value
                parts = list(ast.walk(value))
                if any(isinstance(part, ast.Call) and _returns_random(part.func) for part in parts):
                    constants = (part.value for part in parts if isinstance(part, ast.Constant))
                    yield RandomKey(value.lineno, frozenset(text for text in constants if isinstance(text, str)))


def _assignments(node: ast.AST, in_function: bool) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a node assigns: variables, attributes, items, keywords and keys of a dictionary."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Attribute):
                yield target.attr, node.value
            elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                yield str(target.slice.value), node.value
            elif isinstance(target, ast.Name) and not in_function:
                yield target.id, node.value
    elif isinstance(node, ast.Call):
        yield from ((keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg)
        match node:
            case ast.Call(func=ast.Attribute(attr="setdefault"), args=[ast.Constant(value=str(name)), value]):
                yield name, value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                yield str(key.value), value


def _returns_random(function: ast.expr) -> bool:
    """Return whether a function returns a random value, by its name."""
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in MAKERS
