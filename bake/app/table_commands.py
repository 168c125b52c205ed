"""Find an app's own commands that create its tables, such as `flask init-db`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from bake.app.names import last_name

#: Names of such commands in public apps: init-db, initdb, create_tables, db-init, setup-database.
NAME = re.compile(
    r"(init|create|setup|make)[-_]?(all|db|database|tables?|schema)|(db|database)[-_]?(init|create|setup)"
)


def table_commands(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the Flask commands in a file that, by their names, create tables.

    A command is a function below a decorator `….command(NAME)`. Without NAME, click derives it from the function's.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = (_command(decorator, node.name) for decorator in node.decorator_list)
            yield from (name for name in names if NAME.fullmatch(name))


def _command(decorator: ast.expr, function: str) -> str:
    """Return the name of the command that a decorator makes of a function, or "" if it makes none."""
    if not isinstance(decorator, ast.Call) or last_name(decorator.func) != "command":
        return ""
    values = [*decorator.args[:1], *(keyword.value for keyword in decorator.keywords if keyword.arg == "name")]
    names = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return names[0] if names else function.removesuffix("_command").replace("_", "-")
