"""Find scripts beside an app that create its tables, such as `python create_db.py`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from bake.app import command_line, own_server
from bake.app.name_resolution import Reader
from bake.app.names import dotted_name, last_name
from bake.app.scopes import Function, Module, asks_for_main
from bake.config.recipe import Recipe

#: The method of SQLAlchemy's metadata, and of Flask-SQLAlchemy, that creates the tables.
CREATE = "create_all"
#: Names of functions that delete data, and SQL that does.
DELETES = re.compile(r"_*(drop|truncate|delete|recreate|reset|wipe|clear|unlink|rmtree)(_\w+)?")
DELETES_IN_SQL = re.compile(r"\b((drop|truncate)\s+(table|database|schema)|delete\s+from)\b", re.I)
#: Names of functions that do not return: they serve, poll or wait for events.
STAYS = re.compile(r"run|run_(app|forever|simple)|serve(_forever)?|start|quickstart|listen|mainloop|\w*polling")
#: Names for input, and packages that read arguments or input.
INPUT = {"argv", "getpass", "input", "interact", "prompt", "raw_input", "stdin"}
INPUT_PACKAGES = {"argparse", "click", "fire", "getopt", "getpass", "optparse", "typer"}
#: What only an app has: decorators of its pages, and calls that add them.
PAGES, ADDS_PAGES = {"get", "post", "route"}, {"add_api_route", "add_url_rule", "include_router", "register_blueprint"}
#: Decorators of functions that an app runs when it starts, or before it answers.
HOOKS = {"before_app_request", "before_first_request", "before_request", "before_serving", "on_event"}

Functions = dict[str, Function]


def find(reader: Reader, modules: list[Module], recipe: Recipe, target: str) -> list[str]:
    """Return the commands of the scripts at the top of the folder that create tables, delete nothing and then end.

    `modules` are the app and those that it imports, and `target` is the app, as in the recipe. Return no commands if
    the modules are unknown, or create tables themselves.
    """
    commands = (*recipe.setup, *(process.run for process in (recipe.processes or {}).values()))
    used_names = {word for command in commands for word in command_line.split(command)}
    scripts = []
    for module in reader.files if modules else ():
        importers = (other for other in reader.files if other is not module)
        is_used = module in modules or not used_names.isdisjoint({module.name, str(module.path)})
        is_alone = len(module.path.parts) == 1 and not any(module.name in each.imported_packages for each in importers)
        if is_alone and not is_used and _names_create(reader, module) and _only_creates(reader.tree(module)):
            scripts.append(module)
    if scripts and _create_themselves(reader, modules, target, is_program=bool(recipe.run)):
        return []
    return [f"python {module.path}" for module in scripts]


def _names_create(reader: Reader, module: Module) -> bool:
    """Return whether a file contains the name of the method. Few files do, and only those are parsed again."""
    return not module.skip_reason and CREATE.encode() in (reader.folder / module.path).read_bytes()


def _only_creates(tree: ast.Module) -> bool:
    """Return whether a file creates tables if it is run, and contains nothing that deletes, serves or reads input."""
    functions = _functions(tree)
    return _reaches_create(tree.body, functions, is_program=True) and not any(
        _is_unfit(node, functions) for node in ast.walk(tree)
    )


def _is_unfit(node: ast.AST, functions: Functions) -> bool:
    """Return whether a part of a file may delete data, serve, run without an end, or read input."""
    match node:
        case ast.Constant(value=str(text)):
            return bool(DELETES_IN_SQL.search(text))
        case ast.Import(names=names):
            return any(alias.name.partition(".")[0] in INPUT_PACKAGES for alias in names)
        case ast.ImportFrom(module=package) if (package or "").partition(".")[0] in INPUT_PACKAGES:
            return True
        case ast.While(test=ast.Constant(value=value)):
            return bool(value)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            calls = (each.func for each in node.decorator_list if isinstance(each, ast.Call))
            return any(last_name(function) in PAGES for function in calls)
        case ast.Call(func=function):
            is_other = dotted_name(function).partition(".")[0] in own_server.OTHERS or (
                isinstance(function, ast.Name) and function.id in functions
            )
            return last_name(function) in ADDS_PAGES or bool(STAYS.fullmatch(last_name(function)) and not is_other)
        case ast.Name() | ast.Attribute():
            return _is_unfit_name(last_name(node)) or dotted_name(node) in ("os.remove", "remove")
        case ast.alias(name=name):
            return _is_unfit_name(name)
    return False


def _is_unfit_name(name: str) -> bool:
    """Return whether a name, as of a function, deletes data or reads input."""
    return name in INPUT or bool(DELETES.fullmatch(name))


def _functions(tree: ast.Module) -> Functions:
    """Return the functions and methods of a file by their names. The last one of a name counts."""
    return {node.name: node for node in ast.walk(tree) if isinstance(node, Function)}


def _reaches_create(body: list[ast.stmt], functions: Functions, *, is_program: bool) -> bool:
    """Return whether statements, or functions of the file that they name, name the method that creates tables.

    If the file is not run as a program, leave out what depends on `__main__`.
    """
    return any(
        isinstance(node, ast.Attribute) and node.attr == CREATE for node in _reached(body, dict(functions), is_program)
    )


def _reached(body: list[ast.stmt], functions: Functions, is_program: bool) -> Iterator[ast.AST]:
    """Yield the parts of statements and of the functions that they name. Each function counts once."""
    pending: list[ast.AST] = [*body]
    while pending:
        node = pending.pop()
        if isinstance(node, Function):
            continue
        if isinstance(node, ast.If) and not is_program and asks_for_main(node.test):
            pending += node.orelse
            continue
        yield node
        name = last_name(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        if function := functions.pop(name, None):
            pending += function.body
        pending += ast.iter_child_nodes(node)


def _create_themselves(reader: Reader, modules: list[Module], target: str, *, is_program: bool) -> bool:
    """Return whether an app creates its tables when it is imported, when another module calls it, or as it starts."""
    for module in filter(lambda module: _names_create(reader, module), modules):
        tree = reader.tree(module)
        functions = _functions(tree)
        called = {name.rpartition(".")[2] for other in modules if other is not module for name in other.calls}
        called.add(target.rpartition(":")[2].partition("(")[0])
        started = [function for name, function in functions.items() if name in called or _is_hook(function)]
        body = [*tree.body, *(statement for function in started for statement in function.body)]
        if _reaches_create(body, functions, is_program=is_program):
            return True
    return False


def _is_hook(function: Function) -> bool:
    """Return whether a decorator has the framework call a function when the app starts, or before it answers."""
    return any(last_name(getattr(decorator, "func", decorator)) in HOOKS for decorator in function.decorator_list)
