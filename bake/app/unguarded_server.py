"""Find calls that start a development server while a module is imported. The machine's server would never get past."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterable, Iterator

from bake.app.name_resolution import Reader
from bake.app.names import dotted_name, last_name
from bake.app.scopes import Module
from bake.errors import NoAppError

#: The last parts of the names of calls that start a server.
NAMES = {"run", "run_simple", "serve", "serve_forever"}
#: Those of them that start one whatever their arguments are.
SERVERS = {"bottle.run", "uvicorn.run"}


def require_none(reader: Reader, modules: Iterable[Module]) -> None:
    """Raise NoAppError if one of these modules starts a server without a condition."""
    for module in modules:
        if any(name.encode() in (reader.folder / module.path).read_bytes() for name in NAMES):
            for statement in _unconditional(reader.tree(module).body):
                if isinstance(statement, ast.Expr | ast.Assign) and isinstance(statement.value, ast.Call):
                    function = statement.value.func
                    if _starts_server(reader, module, statement.value):
                        raise _error(reader, module, statement, dotted_name(function) or last_name(function))


def _unconditional(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that always run when a module is imported, also those of functions that these call."""
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    pending = list(body)[::-1]
    while pending:
        statement = pending.pop()
        yield statement
        match statement:
            case ast.With() | ast.Try() | ast.If(test=ast.Constant(value=True) | ast.Name(id="__name__")):
                pending += reversed(statement.body)
            case ast.Expr(value=ast.Call(func=ast.Name(id=name))) if name in functions:
                pending += reversed(functions.pop(name).body)


def _starts_server(reader: Reader, module: Module, call: ast.Call) -> bool:
    """Return whether a call starts a server: bottle.run(), waitress.serve(app), app.run(), ….serve_forever()."""
    name = last_name(call.func)
    if name not in NAMES:
        return False
    if name == "serve_forever" or reader.makes(module.scope, dotted_name(call.func), SERVERS):
        return True
    # The app is the object with the method or, as for run_simple, one of the arguments.
    candidates = [*call.args, *([call.func.value] if isinstance(call.func, ast.Attribute) else [])]
    apps = (reader.look_up(module.scope, node.id) for node in candidates if isinstance(node, ast.Name))
    return any(app is not None and not app.factory for app in apps)


def _error(reader: Reader, module: Module, statement: ast.stmt, function: str) -> NoAppError:
    """Return the error for a statement that starts a server, with the lines to write instead."""
    with tokenize.open(reader.folder / module.path) as stream:
        text = ast.get_source_segment(stream.read(), statement) or f"{function}()"
    guard, call = 'if __name__ == "__main__":', text.replace("\n", "\n    ")
    return NoAppError(
        f"{module.path}:{statement.lineno}: {function}() starts a server when the file is imported",
        "Replace the line by the two lines above. The server then starts only if you run the file.",
        f"{guard}\n    {call}",
    )
