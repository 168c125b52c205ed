"""Find the keys that sign sessions, and where a module takes their values from."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

from bake.app.names import assigned_values, dotted_name, last_name

#: Names of keys that sign sessions in Flask, Django and their extensions.
KEY = re.compile(r"(\w+_)?SECRET(_KEY)?|secret_key|cookie_secret")
#: Those that no other service gives out: unlike AWS_SECRET_KEY, any random value is right.
OWN_KEY = re.compile(r"((APP|DJANGO|FLASK|JWT|SESSION|CSRF|WTF_CSRF)_)?SECRET(_KEY)?|secret_key|cookie_secret")
#: The last parts of the dotted names of functions that return random values.
MAKERS = ("urandom", "token_bytes", "token_hex", "token_urlsafe", "uuid4", "get_random_secret_key", "generate_key")
#: Classes whose subclasses have names of kinds, such as SECRET = "secret".
ENUMS = {"Enum", "StrEnum", "TextChoices"}
#: The names of functions that read a variable: os.getenv, os.environ.get, env, env.str, and decouple's config.
READER = re.compile(r"(\w+\.)*(\w*env\w*(\.\w+)?|config)", re.I)


@dataclass(frozen=True)
class SessionKey:
    """A key that signs sessions: its line, and the strings in its expression.

    `random`: each process that loads the app may generate another one. `variable` is the environment variable that has
    its value, or "". `literal`: its value is in the source.
    """

    line: int
    strings: frozenset[str]
    random: bool
    variable: str = ""
    literal: bool = False


def find(tree: ast.Module, nodes: list[ast.AST]) -> Iterator[SessionKey]:
    """Yield the keys of a module with these nodes.

    Skip local variables, which may be tokens of visitors, and the members of enumerations, which are names of kinds.
    """
    values = assigned_values(tree)
    scopes = [node for node in nodes if _is_skipped(node)]
    for node in nodes:
        for target, name, value in assignments(node):
            if KEY.fullmatch(name) and not (isinstance(target, ast.Name) and _is_inside(target, scopes)):
                key = session_key(name, values.get(value.id, value) if isinstance(value, ast.Name) else value)
                if key.random or key.variable or key.literal:
                    yield key


def _is_skipped(node: ast.AST) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    if isinstance(node, ast.ClassDef):
        return any(last_name(base) in ENUMS for base in node.bases)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _is_inside(node: ast.Name, scopes: Iterable[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]) -> bool:
    return any(scope.lineno <= node.lineno <= (scope.end_lineno or 0) for scope in scopes)


def session_key(name: str, value: ast.expr) -> SessionKey:
    """Return the key that is assigned to this name."""
    parts = list(ast.walk(value))
    strings = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    random = any(isinstance(part, ast.Call) and last_name(part.func) in MAKERS for part in parts)
    is_own = bool(OWN_KEY.fullmatch(name))
    source = next(filter(None, map(variable, parts)), "") if is_own else ""
    is_literal = is_own and isinstance(value, ast.Constant) and bool(strings and strings[0])
    return SessionKey(value.lineno, frozenset(strings), random, source, is_literal)


def variable(node: ast.AST) -> str:
    """Return NAME of `os.environ["NAME"]`, `os.getenv("NAME", …)` and the like, or ""."""
    match node:
        case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]) if READER.fullmatch(
            dotted_name(function)
        ):
            return name
        case ast.Subscript(value=value, slice=ast.Constant(value=str(name))) if dotted_name(value).endswith("environ"):
            return name
    return ""


def assignments(node: ast.AST) -> Iterator[tuple[ast.AST, str, ast.expr]]:
    """Yield what a node assigns to, with the name and the value: variables, attributes, items, keywords and keys."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Attribute):
                yield target, target.attr, node.value
            elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                yield target, str(target.slice.value), node.value
            elif isinstance(target, ast.Name):
                yield target, target.id, node.value
    elif isinstance(node, ast.Call):
        yield from ((keyword, keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg)
        match node:
            case ast.Call(func=ast.Attribute(attr="setdefault"), args=[ast.Constant(value=str(name)), value]):
                yield node, name, value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                yield key, str(key.value), value
