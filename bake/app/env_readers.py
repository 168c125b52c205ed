"""Recognize the objects of django-environ, environs, python-decouple and Starlette that read variables."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from bake.app.names import dotted_name

#: The library of each class of such objects, and of the objects that a library has itself.
CLASSES = {
    "environ.Env": "environ", "environ.FileAwareEnv": "environ", "environs.Env": "environs",
    "environs.FileAwareEnv": "environs", "decouple.AutoConfig": "decouple", "starlette.config.Config": "starlette",
}  # fmt: skip
OBJECTS = {"decouple.config": "decouple", "environs.env": "environs"}
#: Arguments of a class with which bake does not know the names or the time of the reads.
UNKNOWN = {None, "eager", "environ", "env_prefix", "prefix"}
#: Methods of django-environ that read one variable by default.
DEFAULT_NAMES = {
    "db": "DATABASE_URL", "db_url": "DATABASE_URL", "cache": "CACHE_URL", "cache_url": "CACHE_URL",
    "email": "EMAIL_URL", "email_url": "EMAIL_URL", "search_url": "SEARCH_URL", "channels": "CHANNELS_URL",
    "channels_url": "CHANNELS_URL",
}  # fmt: skip
#: Methods whose second argument is a type in django-environ and Starlette. That of others is a default.
CAST_METHODS = {"", "get", "get_value", "list", "tuple", "dict"}
METHODS = {
    *CAST_METHODS, *DEFAULT_NAMES, "str", "string", "bytes", "bool", "int", "float", "decimal", "json", "url", "path",
    "datetime", "date", "time", "timedelta", "log_level", "uuid", "enum", "dj_db_url", "dj_email_url", "dj_cache_url",
}  # fmt: skip


@dataclass(frozen=True)
class EnvReader:
    """An object that reads variables, by its library. `defaults` are the variables that have one in its scheme."""

    library: str
    defaults: frozenset[str] = frozenset()

    def required_name(self, call: ast.Call, method: str) -> str:
        """Return the variable that a call of a method needs, or "". The method "" calls the object itself."""
        name = DEFAULT_NAMES.get(method, "") if self.library == "environ" else ""
        match call.args:
            case [ast.Constant(value=str(text)), *_]:
                name = text
            case [_, *_]:
                return ""
        most = 2 if self.library in ("environ", "starlette") and method in CAST_METHODS else 1
        has_default = len(call.args) > most or any(word.arg in ("default", "missing", None) for word in call.keywords)
        return "" if has_default or method not in METHODS or name in self.defaults else name


def origin(node: ast.expr, imports: Mapping[str, str]) -> str:
    """Return the full dotted name of an expression, or "" if it is none."""
    first, dot, rest = dotted_name(node).partition(".")
    return imports.get(first, first) + dot + rest


def env_reader(node: ast.expr, imports: Mapping[str, str]) -> EnvReader | None:
    """Return the object that an expression creates, or that it names in a library, or None."""
    if not isinstance(node, ast.Call):
        library = OBJECTS.get(origin(node, imports))
        return EnvReader(library) if library else None
    library = CLASSES.get(origin(node.func, imports))
    if library is None or len(node.args) > 1 or any(word.arg in UNKNOWN for word in node.keywords):
        return None
    has_default = {word.arg: isinstance(word.value, ast.Tuple) and len(word.value.elts) == 2 for word in node.keywords}
    return EnvReader(library, frozenset(name for name, value in has_default.items() if name and value))
