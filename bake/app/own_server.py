"""Find programs of the app's folder that are HTTP servers themselves, and the commands that start them."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TypeGuard

from bake.app import command_line, import_roots
from bake.app.name_resolution import Reader
from bake.app.names import assigned_values, dotted_name, last_name
from bake.app.scopes import Module
from bake.errors import NoAppError, SeveralAppsError


@dataclass(frozen=True)
class Server:
    """A library with a server: the last part of the name of its call, or "" if an import is enough, and the command.

    `port` is the one that the library uses if its call names none. None: the machine's variables set the port. `{app}`
    in the command is the name in the module that the call's value is assigned to.
    """

    package: str
    call: str
    command: str = "python3 {file}"
    port: int | None = None


#: The first one that a file uses counts.
SERVERS = (
    Server("streamlit", "", "streamlit run {file}"),
    Server("gradio", "launch"),
    Server("nicegui", "run", port=8080),
    Server("panel", "servable", "panel serve {file} --address 127.0.0.1 --port $PORT"),
    Server("bokeh", "curdoc", "bokeh serve {file} --address 127.0.0.1 --port $PORT"),
    Server("aiohttp", "run_app", port=8080),
    Server("tornado", "listen"),
    Server("sanic", "Sanic", "sanic {module}:{app} --host 127.0.0.1 --port $PORT"),
    Server("sanic", "run", port=8000),
    Server("http", "serve_forever"),
    Server("socketserver", "serve_forever"),
    Server("dash", "run"),
    Server("flask", "run", port=5000),
    Server("werkzeug", "run_simple"),
    Server("bottle", "run", port=8080),
    Server("cherrypy", "quickstart", port=8080),
    Server("cherrypy", "start", port=8080),
    Server("uvicorn", "run", port=8000),
    Server("waitress", "serve", port=8080),
)
#: Names of files that start an app, for a choice between several.
USUAL = ("app", "main", "server", "run", "streamlit_app", "Home", "__main__")
#: The key of CherryPy's port in its configuration.
CHERRYPY_PORT = "server.socket_port"
#: The port of a program that computes it.
UNKNOWN = 0
#: Receivers of calls named `run` that start no server.
OTHERS = {"anyio", "asyncio", "self", "subprocess", "trio"}
#: Receivers of CherryPy's `start`. Others are threads and timers.
STARTED = {"engine", "server"}
#: The option of a program that takes its port: argparse, click or typer, and Tornado's options.
PORT_OPTION = re.compile(
    r"""(?:add_argument|\boption|\bOption)\([^)]*["']--port["']|\bdefine\(\s*["']port["'](?s:.*)parse_command_line\("""
)
#: Packages whose servers show their debugger to visitors.
DEBUGGERS = {"flask", "dash", "werkzeug"}


@dataclass(frozen=True)
class Program:
    """A file that serves: its command and port, and the place and the text of the line that shows it."""

    command: str
    port: int | None
    location: str
    text: str

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the lines for bake.yaml."""
        return (f"run: {self.command}", *([f"port: {self.port}"] if self.port else []))


def find(reader: Reader) -> list[Program]:
    """Return the programs of the folder; only the one with a usual name if there is one."""
    imported_names = {origin for module in reader.modules.values() for origin in module.scope.imports.values()}
    programs: dict[Module, Program] = {}
    for module in reader.files:
        # The files in `pages` are Streamlit's further pages.
        is_part = module.name in imported_names or "pages" in module.path.parts[:-1] or module.is_bottle
        if not is_part and (program := program_in(reader, module) or _imported_program(reader, module)):
            programs[module] = program
    depth = min((len(module.path.parts) for module in programs), default=0)
    outer_modules = [module for module in programs if len(module.path.parts) == depth]
    usual_modules = [module for name in USUAL for module in outer_modules if module.path.stem == name]
    return [programs[module] for module in usual_modules[:1] or outer_modules]


def _imported_program(reader: Reader, module: Module) -> Program | None:
    """Return the program that starts a server of a module that it imports, or None."""
    closure = reader.import_closure(module) if module.serves else []
    program = next((program for each in closure if (program := program_in(reader, each))), None)
    return replace(program, command=python_command(reader, module)) if program else None


def error(reader: Reader, details: str) -> NoAppError | SeveralAppsError | None:
    """Return the error that proposes `run` for a folder without an app; None if nothing in it serves.

    `details` are the reasons why bake cannot serve the apps that it saw, a line for each.
    """
    programs = find(reader)
    if len(programs) > 1:
        return SeveralAppsError({program.command: program.location for program in programs}, "run")
    if not programs:
        return None
    (program,) = programs
    module = _module(reader, program.command)
    if module and (fault := import_roots.package_import(reader, reader.import_closure(module))):
        line = f"run: python3 -m {reader.folder.resolve().name}.{module.name}"
        return NoAppError(fault.message(), f"{fault.hint(reader)} Its bake.yaml needs the line `{line}`.")
    problem = NoAppError(
        f"bake found no WSGI or ASGI app in {reader.folder}, but a program with its own server: {program.location}: "
        f"{program.text}",
        "bake proposes the lines with `run` above. Check them and add them to bake.yaml, as `bake init` does.",
        "\n".join([*details.splitlines(), *program.lines]),
    )
    problem.proposal = program.lines
    return problem


def port(reader: Reader, command: str) -> int | None:
    """Return the port at which a command serves. None: it takes the one that the machine gives it, or is unknown."""
    module = None if "$PORT" in command else _module(reader, command)
    program = program_in(reader, module) if module else None
    return program.port if program else None


def modules(reader: Reader, command: str) -> list[Module]:
    """Return the module that a command runs, and those that it imports.

    Raises NoAppError for a file that does not exist, and for a visible debugger.
    """
    words = command_line.split(command)
    files = [] if "cd" in words else [word for word in words if word.endswith(".py")]
    for name in files:
        if not (reader.folder / name).is_file():
            raise NoAppError(f"run: {name} is not in {reader.folder}", "Correct `run` in bake.yaml.")
    module = _module(reader, command)
    closure = reader.import_closure(module) if module else []
    for each in closure:
        _require_no_debugger(reader, each)
    return closure


def _module(reader: Reader, command: str) -> Module | None:
    """Return the module that a command runs: its first Python file, or the module after -m."""
    words = command_line.split(command)
    folder = command_line.first_folder(words)
    for before, word in zip(["", *words], words, strict=False):
        names = (word, f"{word}.__main__") if before == "-m" else ()
        paths = (str(PurePosixPath(folder, word)),) if word.endswith(".py") else ()
        for module in reader.files:
            if module.name in names or str(module.path) in paths:
                return module
    return None


def program_in(reader: Reader, module: Module) -> Program | None:
    """Return the program in a file, or None if it starts no server."""
    servers = [server for server in SERVERS if server.package in module.imported_packages]
    tree = reader.tree(module) if servers else ast.Module([], [])
    for server in servers:
        lines = sorted(node.lineno for node in ast.walk(tree) if _shows(node, server))
        app = _assigned_name(tree, server)
        if lines and (app or "{app}" not in server.command):
            text = (reader.folder / module.path).read_text(encoding="utf-8-sig", errors="replace")
            command, port = _command(reader, module, server, app), _port(tree, server)
            if port is UNKNOWN and PORT_OPTION.search(text):
                command += " --port=$PORT"
            reads_port = "$PORT" in command or re.search(r"""["']PORT["']""", text) or port is UNKNOWN
            location = f"{module.path}:{lines[0]}"
            return Program(command, None if reads_port else port, location, text.splitlines()[lines[0] - 1].strip())
    return None


def _command(reader: Reader, module: Module, server: Server, app: str) -> str:
    """Return the command that starts a server."""
    if server.command.startswith("python3 "):
        return python_command(reader, module)
    return server.command.format(file=shlex.quote(str(module.path)), module=module.name, app=app)


def python_command(reader: Reader, module: Module) -> str:
    """Return the command that runs a module: `python3 -m` for one of a package, whose imports may need it."""
    if module.name.rpartition(".")[0] in reader.modules:
        return f"python3 -m {module.name.removesuffix('.__main__')}"
    return f"python3 {shlex.quote(str(module.path))}"


def _assigned_name(tree: ast.Module, server: Server) -> str:
    """Return the first name at module level that is assigned from the server's call, or ""."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=function)):
                if last_name(function) == server.call:
                    return name
    return ""


def _shows(node: ast.AST, server: Server) -> TypeGuard[ast.stmt | ast.expr]:
    """Return whether a part of a file calls a server or, for one without a call, imports it."""
    match node:
        case ast.Call():
            name = last_name(node.func)
            receiver = last_name(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            is_other = dotted_name(node.func).partition(".")[0] in OTHERS or (
                name == "start" and receiver not in STARTED
            )
            return bool(server.call) and name == server.call and not is_other
        case ast.Import():
            return not server.call and any(alias.name.partition(".")[0] == server.package for alias in node.names)
        case ast.ImportFrom():
            return not server.call and (node.module or "").partition(".")[0] == server.package
    return False


def _port(tree: ast.Module, server: Server) -> int | None:
    """Return the port that a server's call names: run(port=8080), listen(8888), HTTPServer(("", 8000), …).

    If no call names one, return the server's own. If one computes it, return UNKNOWN.
    """
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls = [call for call in calls if _shows(call, server) or last_name(call.func).endswith("Server")]
    values = [value for call in calls for value in _port_values(call)]
    for settings in (node for node in ast.walk(tree) if isinstance(node, ast.Dict)):
        pairs = zip(settings.keys, settings.values, strict=True)
        values += [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == CHERRYPY_PORT]
    constants = assigned_values(tree)
    for value in values:
        named = constants.get(value.id, value) if isinstance(value, ast.Name) else value
        if isinstance(named, ast.Constant) and isinstance(named.value, int) and 1024 <= named.value <= 65535:
            return named.value
    return UNKNOWN if values else server.port


def _port_values(call: ast.Call) -> Iterator[ast.expr]:
    """Yield the arguments of a call that may be a port."""
    yield from (keyword.value for keyword in call.keywords if keyword.arg in ("port", "server_port"))
    match last_name(call.func), call.args:
        case "listen", [value, *_]:
            yield value
        case name, [ast.Tuple(elts=[_, value]), *_] if name.endswith("Server"):
            yield value
        case (("run_simple" | "run"), [_, ast.Constant(value=int()) as value, *_]):
            yield value


def _require_no_debugger(reader: Reader, module: Module) -> None:
    """Raise NoAppError if a module starts Werkzeug's debugger, with which visitors could run code."""
    if module.imported_packages.isdisjoint(DEBUGGERS):
        return
    for call in (node for node in ast.walk(reader.tree(module)) if isinstance(node, ast.Call)):
        for keyword in call.keywords:
            is_on = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            if is_on and keyword.arg in ("debug", "use_debugger") and last_name(call.func).startswith("run"):
                raise NoAppError(
                    f"{module.path}:{call.lineno}: {keyword.arg}=True shows the debugger to visitors",
                    f"Remove {keyword.arg}=True, and start it with `flask run --debug` on your computer.",
                )
