"""Find out whether a server that loads an app also adds its pages, or whether only a program of the app adds them.

bake follows the code that runs: a module's statements, its imports, and each function whose name that code mentions.
That is more than what runs, so an app that seems to have no pages has none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial

from bake.app import own_server, project_metadata
from bake.app.name_resolution import USUAL_FACTORIES, App, Reader
from bake.app.names import dotted_name, last_name
from bake.app.scopes import Function, FunctionScope, Module, asks_for_main
from bake.errors import NoAppError, RequirementError

#: Callables whose apps get their pages by calls alone.
PAGE_MAKERS = {
    "apiflask.APIFlask", "bottle.Bottle", "fastapi.FastAPI", "fastapi.applications.FastAPI", "flask.Flask",
    "flask.app.Flask", "flask_openapi3.OpenAPI", "quart.Quart", "quart.app.Quart",
}  # fmt: skip
#: The last parts of calls that add pages.
ADDING_CALLS = {
    "add_api_route", "add_api_websocket_route", "add_namespace", "add_resource", "add_route", "add_url_rule",
    "add_view", "include_router", "register_api", "register_blueprint",
}  # fmt: skip
#: The last parts of the decorators that add a page.
DECORATORS = {"api_route", "delete", "get", "patch", "post", "put", "route", "websocket", "websocket_route"}
#: The ends of the names of classes that collect pages. Only an app that registers them has these pages.
COLLECTIONS = ("Blueprint", "Router", "Namespace")
#: Modules that usually start an app, also without `if __name__ == "__main__"`.
STARTERS = {"run", "main", "server", "serve", "__main__"}
#: The maximum number of imports to follow to the place where a name is defined.
MAX_IMPORTS = 5
#: The maximum number of other names of an app, and of programs, to examine: each may read the whole app.
MAX_WALKS = 10


@dataclass(frozen=True)
class Place:
    """A call that adds pages. `function` is the name of the function with the call, or ""."""

    module: Module
    line: int
    function: str

    @property
    def text(self) -> str:
        """Return the function and the location, for a message."""
        return f"{self.function}() in " * bool(self.function) + f"{self.module.path}:{self.line}"


@dataclass(frozen=True)
class Program:
    """A file that is run, or a function that the project installs as a command, and the command that starts it."""

    module: Module
    command: str
    function: str = ""


def complete(reader: Reader, app: App, names: Iterable[App]) -> App:
    """Return the one of an app's names whose code adds its pages. The app itself comes first.

    A usual factory that finishes an app of module level comes before the app. Raises NoAppError with a proposed `run`
    if only a program adds the pages. `names` are other names of the app.
    """
    call = app.root.call
    if call is None or not reader.makes(app.root.module.scope, dotted_name(call.func), PAGE_MAKERS):
        return app
    if any(keyword.arg in ("routes", None) for keyword in call.keywords):
        return app
    others = [other for other in names if other.module is app.root.module or _is_entry(other.module)]
    others = [other for other in others if not _takes_settings(other)][:MAX_WALKS]
    walk_of = partial(_Walk, reader, cache(reader.tree))
    if not (app.factory or app.root.factory):
        factories = [other for other in others if other.factory and other.name in USUAL_FACTORIES]
        mentions = walk_of(app).all_mentions() if factories else set()
        app = next((factory for factory in factories if factory.name not in mentions), app)
    for candidate in (app, *others):
        if any(walk_of(candidate).places()):
            return candidate
    for program in (*_programs(reader), *_commands(reader)):
        walk = walk_of(app, program)
        place = next(walk.places(), None)
        if place and app.root.module in walk.modules:
            raise _error(app, walk, program, place)
    return app


def _takes_settings(app: App) -> bool:
    """Return whether an app's name is a function with arguments, and no usual factory: a program passes them."""
    binding = next(reversed(app.module.scope.names.get(app.name, [])), None)
    value = binding.value if binding else None
    return isinstance(value, FunctionScope) and bool(value.arguments) and app.name not in USUAL_FACTORIES


def _is_entry(module: Module) -> bool:
    """Return whether a module is one that servers load: by its name, or because it is in no package."""
    return len(module.path.parts) == 1 or module.path.stem in {"wsgi", "asgi", "app", "application", *STARTERS}


def guarded_pages(reader: Reader, app: App) -> Iterator[str]:
    """Yield a warning for each file that adds a page to an app only if it runs as a program."""
    for program in _programs(reader):
        guarded = (node for node in reader.tree(program.module).body if isinstance(node, ast.If))
        nodes = (node for block in guarded if asks_for_main(block.test) for node in ast.walk(block))
        calls = (node for node in nodes if isinstance(node, ast.Call) and last_name(node.func) in ADDING_CALLS)
        for call in calls:
            receiver = reader.look_up(program.module.scope, dotted_name(call.func).rpartition(".")[0])
            if receiver and receiver.root.call is app.root.call:
                location = f"{program.module.path}:{call.lineno}"
                yield f'warning: {location} adds pages inside `if __name__ == "__main__"`, and servers do not run that'
                break


def _programs(reader: Reader) -> list[Program]:
    """Return the files that seem to be programs, the most likely one first."""
    modules = [module for module in reader.files if module.serves or module.path.stem in STARTERS]
    modules.sort(key=lambda module: (len(module.path.parts), not module.serves, module.path))
    return [Program(module, own_server.python_command(reader, module)) for module in modules[:MAX_WALKS]]


def _commands(reader: Reader) -> Iterator[Program]:
    """Yield the commands that the project installs."""
    with suppress(RequirementError):
        project = project_metadata.find(reader.folder)
        commands = project.entry_points.get("console_scripts", {}) if project else {}
        for name, target in [*commands.items()][:MAX_WALKS]:
            module, _, function = target.partition(":")
            if module in reader.modules:
                yield Program(reader.modules[module], name, function)


def _error(app: App, walk: _Walk, program: Program, place: Place) -> NoAppError:
    """Return the error for an app whose pages only a program adds, with the lines of bake.yaml that start it."""
    port = _port(walk.reader, walk.modules)
    lines = (f"run: {program.command}", *([f"port: {port}"] if port else []))
    error = NoAppError(
        f"{app.target} ({app.location}) has no pages for a server that loads it: {place.text} adds them, and only the "
        f"program {program.module.path} runs that",
        f"If {program.module.path} serves the site, add the lines above to bake.yaml, as `bake init` does; `port` "
        "is the one at which it serves, if it does not use PORT. If the app is complete, write "
        f"`{app.key}: {app.target}`.",
        "\n".join(lines),
    )
    error.proposal = lines
    return error


def _port(reader: Reader, modules: Iterable[Module]) -> int | None:
    """Return the port in the modules of a program: in the call of a server, or as a constant such as DEFAULT_PORT.

    Return None if there is none, or if the program reads PORT.
    """
    texts = [(reader.folder / module.path).read_bytes() for module in modules]
    if any(re.search(rb"""["']PORT["']""", text) for text in texts):
        return None
    for module in modules:
        if (server := own_server.program_in(reader, module)) and server.port:
            return server.port
    numbers = [re.search(rb"^\w*PORT *= *(\d{4,5})\b", text, re.MULTILINE) for text in texts]
    return next((int(number[1]) for number in numbers if number), None)


class _Walk:
    """The code that runs when a server loads an app or, with `program`, when Python runs that module."""

    def __init__(
        self, reader: Reader, tree: Callable[[Module], ast.Module], app: App, program: Program | None = None
    ) -> None:
        self.reader = reader
        self.tree = tree
        #: The module that runs as a program. A command imports its module instead.
        self.program = program.module if program and not program.function else None
        #: The modules that run, in order.
        self.modules: dict[Module, None] = {}
        #: All names in the code.
        self.mentions = {program.function} if program else {app.name} if app.factory else set[str]()
        #: Code to read: its module, its function, and its statements.
        self._pending: list[tuple[Module, str, list[ast.stmt]]] = []
        #: The functions that no code has mentioned.
        self._functions: dict[str, list[tuple[Module, Function]]] = {}
        self._run(program.module if program else app.module)
        self._import(app.module.name if program is None else program.module.name.rpartition(".")[0])

    def places(self) -> Iterator[Place]:
        """Yield the calls that add pages."""
        while self._pending:
            module, function, body = self._pending.pop(0)
            for node in _nodes(body, module is self.program):
                self._read(module, node)
                if isinstance(node, Function):
                    decorators = [getattr(each, "func", each) for each in node.decorator_list]
                    if any(_adds_page(self.reader, module, each, DECORATORS) for each in decorators):
                        yield Place(module, node.lineno, function)
                elif isinstance(node, ast.Call) and _adds_page(self.reader, module, node.func, ADDING_CALLS):
                    yield Place(module, node.lineno, function)

    def all_mentions(self) -> set[str]:
        """Return the names in all the code."""
        for _ in self.places():
            pass
        return self.mentions

    def _read(self, module: Module, node: ast.AST) -> None:
        """Follow the functions, imports and names in a part of the code."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._define(module, node)
            case ast.Import():
                for alias in node.names:
                    self._import(alias.name)
            case ast.ImportFrom():
                for alias in node.names:
                    self._import(f"{module.absolute(node)}.{alias.name}")
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                self._mention(name, f"self.{name}")
            case ast.Name(id=name) | ast.Attribute(attr=name):
                self._mention(name, name)

    def _mention(self, name: str, mention: str) -> None:
        """Read the functions that a name means: `self.name` means only methods."""
        if mention not in self.mentions:
            self.mentions.add(mention)
            functions = self._functions.pop(name, [])
            self._functions[name] = [each for each in functions if not self._is_mentioned(each[1])]
            self._pending += [(module, name, node.body) for module, node in functions if self._is_mentioned(node)]

    def _is_mentioned(self, node: Function) -> bool:
        """Return whether the code has mentioned a function. One with a decorator may be a method without `self`."""
        is_method = bool(node.decorator_list) or [each.arg for each in node.args.args[:1]] in (["self"], ["cls"])
        return node.name in self.mentions or (is_method and f"self.{node.name}" in self.mentions)

    def _import(self, name: str) -> None:
        """Run a module, or the module of a name in it, and the packages that contain it."""
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            if module := self.reader.modules.get(".".join(parts[:length])):
                self._run(module)

    def _run(self, module: Module) -> None:
        """Read the statements of a module."""
        if module not in self.modules:
            self.modules[module] = None
            self._pending.append((module, "", self.tree(module).body))

    def _define(self, module: Module, node: Function) -> None:
        """Read a function if the code has mentioned it, if Python calls it, or if a decorator of the app takes it."""
        decorators = [dotted_name(getattr(each, "func", each)).partition(".")[0] for each in node.decorator_list]
        is_hook = any(name and self.reader.look_up(module.scope, name) for name in decorators)
        if self._is_mentioned(node) or node.name.startswith("__") or is_hook:
            self._pending.append((module, node.name, node.body))
        else:
            self._functions.setdefault(node.name, []).append((module, node))


def _nodes(body: Iterable[ast.AST], is_main: bool) -> Iterator[ast.AST]:
    """Yield the parts of statements, without the bodies of functions and, unless `is_main`, of a program's block."""
    pending = list(body)[::-1]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, Function):
            children: list[ast.AST] = [*node.decorator_list, *node.args.defaults]
        elif isinstance(node, ast.If) and asks_for_main(node.test) and not is_main:
            children = [*node.orelse]
        else:
            children = [*ast.iter_child_nodes(node)]
        pending += reversed(children)


def _adds_page(reader: Reader, module: Module, function: ast.expr, names: set[str]) -> bool:
    """Return whether a function is one of `names` of an app, and not of a collection of pages."""
    receiver, _, name = dotted_name(function).rpartition(".")
    if name not in names:
        return False
    binding = None
    for _ in range(MAX_IMPORTS):
        binding = next(reversed(module.scope.names.get(receiver, [])), None)
        owner, _, origin = module.scope.imports.get(receiver, "").rpartition(".")
        if binding is None or not binding.is_import or owner not in reader.modules:
            break
        module, receiver = reader.modules[owner], origin
    value = binding.value if binding else None
    return not (isinstance(value, ast.Call) and last_name(value.func).endswith(COLLECTIONS))
