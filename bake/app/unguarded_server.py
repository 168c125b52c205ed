"""Find calls that start a development server while a module is imported. The machine's server would never get past."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from bake.app.name_resolution import Reader
from bake.app.names import dotted_name
from bake.app.scopes import Module
from bake.errors import NoAppError

#: The last parts of the dotted names of calls that start a server.
NAMES = {"run"}


def require_none(reader: Reader, modules: Iterable[Module]) -> None:
    """Raise NoAppError if one of these modules starts a server without a condition."""
    for module in modules:
        if any(name.rpartition(".")[2] in NAMES for name in module.calls):
            for statement in reader.tree(module).body:
                match statement:
                    case ast.Expr(value=ast.Call(func=function)) if _starts_server(reader, module, function):
                        text = ast.get_source_segment((reader.folder / module.path).read_text(), statement)
                        call = (text or f"{dotted_name(function)}()").replace("\n", "\n    ")
                        raise NoAppError(
                            f"{module.path}:{statement.lineno}: {dotted_name(function)}() starts the development "
                            "server when the file is imported",
                            "Replace the line by the two lines above. The server then starts only if you run the file.",
                            f'if __name__ == "__main__":\n    {call}',
                        )


def _starts_server(reader: Reader, module: Module, function: ast.expr) -> bool:
    """Return whether a function is bottle.run or uvicorn.run, or the method `run` of an app of the folder."""
    if reader.makes(module.scope, dotted_name(function), {"bottle.run", "uvicorn.run"}):
        return True
    match function:
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if attribute in NAMES:
            app = reader.look_up(module.scope, name)
            return app is not None and not app.factory
    return False
