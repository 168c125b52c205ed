"""Find an app's own commands that create its tables, such as `flask init-db`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from bake.app import own_server
from bake.app.name_resolution import Reader
from bake.app.names import assigned_values, dotted_name, last_name
from bake.config import contract

#: Names of such commands in public apps: init-db, initdb, create_tables, db-init, setup-database.
NAME = re.compile(
    r"(init|create|setup|make)[-_]?(all|db|database|tables?|schema)|(db|database)[-_]?(init|create|setup)"
)


def find(reader: Reader) -> list[str]:
    """Return the app's own commands that create its tables. Few files have commands, and are read again."""
    modules = [module for module in reader.modules.values() if module.imported_packages & {"click", "flask"}]
    files = [module for module in modules if b"command(" in (reader.folder / module.path).read_bytes()]
    programs = {module: own_server.python_command(reader, module) for module in files}
    return list(
        dict.fromkeys(line for module in files for line in table_commands(reader.tree(module), programs[module]))
    )


def note(command: str) -> str:
    """Return how to run such a command once. It may delete data, so no later release may run it again."""
    mark = f"{contract.DATA}/tables"
    return (
        f"`{command}` seems to create the app's tables: to run it once, write  "
        f"release: ['test -e {mark} || {{ {command} && touch {mark}; }}']"
    )


def table_commands(tree: ast.Module, program: str) -> Iterator[str]:
    """Yield the commands of a file that, by their names, create tables: `flask init-db`, `flask db-admin create-all`.

    A command is a function below a decorator `….command(NAME)`. Without NAME, click derives it from the function's.
    `program` runs the file, for the commands of a group that the file itself starts: `python3 manage.py create-all`.
    """
    groups = _groups(tree, program)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                name = _command(decorator, node.name)
                group = dotted_name(getattr(decorator, "func", None)).rpartition(".")[0]
                if NAME.fullmatch(name) and (prefix := groups.get(group, "flask")):
                    yield f"{prefix} {name}"


def _groups(tree: ast.Module, program: str) -> dict[str, str]:
    """Return the beginning of the commands of each group of a file, by the group's name; "" if nothing runs it.

    AppGroup("admin") and @app.cli.group() are groups of Flask's own command. FlaskGroup and @click.group() are others.
    """
    is_program = any(isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in tree.body)
    groups: dict[str, str] = {}
    calls = [(name, value) for name, value in assigned_values(tree).items() if isinstance(value, ast.Call)]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            calls += [(node.name, call) for call in node.decorator_list if isinstance(call, ast.Call)]
    for name, call in calls:
        function = dotted_name(call.func)
        if function.endswith("cli.group") or last_name(call.func) == "AppGroup":
            groups[name] = f"flask {_name(call) or name}"
        elif last_name(call.func) in ("FlaskGroup", "group"):
            groups[name] = program if is_program else ""
    return groups


def _command(decorator: ast.expr, function: str) -> str:
    """Return the name of the command that a decorator makes of a function, or "" if it makes none."""
    if not isinstance(decorator, ast.Call) or last_name(decorator.func) != "command":
        return ""
    return _name(decorator) or function.removesuffix("_command").replace("_", "-")


def _name(call: ast.Call) -> str:
    """Return the name in a call that makes a command or a group, or ""."""
    values = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "name")]
    names = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return names[0] if names else ""
