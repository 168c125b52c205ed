"""An app's Python files, and what the names in them stand for.

By `ast` only: an import would run the app, on a machine that is not the target.
A name in a module is followed through assignments, imports and calls to the
place where the app is made; two names that end in the same place are one app.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from bake.errors import AppFolderError, AppSyntaxError

SKIPPED_FOLDERS = {"tests", "test", "docs", "doc", "node_modules", "build", "dist", "venv", "migrations", "__pycache__"}
SKIPPED_FILES = re.compile(r"(test_.*|.*_test|conftest|setup|noxfile)\.py")

#: What makes an app, by dotted name.
WSGI_MAKERS = {
    "a2wsgi.ASGIMiddleware",
    "apiflask.APIFlask",
    "bottle.Bottle",
    "bottle.default_app",
    "cherrypy.Application",
    "cherrypy.tree.mount",
    "dash.Dash",
    "django.core.wsgi.get_wsgi_application",
    "eve.Eve",
    "falcon.API",
    "falcon.App",
    "flask.Flask",
    "flask.app.Flask",
    "flask_openapi3.OpenAPI",
    "paste.deploy.loadapp",
    "pyramid.paster.get_app",
    "web.application",
}
#: Methods that make one: of Pyramid's Configurator, of web.py's application.
WSGI_METHODS = {"make_wsgi_app", "wsgifunc"}
#: What is made is no app itself, but has one, or makes one: Dash's Flask app.
INNER = {"dash.Dash": ".server", "web.application": ".wsgifunc()"}
#: Bottle's decorators that put routes into the app that it keeps itself.
BOTTLE_ROUTES = {f"bottle.{name}" for name in ("route", "get", "post", "put", "delete", "patch")}
ASGI_MAKERS = {
    "fastapi.FastAPI",
    "starlette.applications.Starlette",
    "quart.Quart",
    "litestar.Litestar",
    "django.core.asgi.get_asgi_application",
    "asgiref.wsgi.WsgiToAsgi",
}
#: Names people give the one that is to be served.
USUAL_NAMES = ("app", "application")
USUAL_FACTORIES = ("create_app", "make_app")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Scope:
    """The names of a module or of a function: each with the nodes that bind it, in order."""

    module: Module
    body: list[ast.stmt]
    parent: Scope | None = None
    names: dict[str, list[ast.AST]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    #: Bound below `if __name__ == "__main__"`: nobody who imports the module sees them.
    hidden: dict[str, list[ast.AST]] = field(default_factory=dict)
    open_ended: bool = False

    def __post_init__(self) -> None:
        for statement, main in statements(self.body):
            for name, node in bindings(statement):
                (self.hidden if main else self.names).setdefault(name, []).append(node)
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    name = alias.name if alias.asname else alias.name.partition(".")[0]
                    self.imports[alias.asname or name] = name
            elif isinstance(statement, ast.ImportFrom):
                origin = self.module.absolute(statement)
                self.open_ended |= any(alias.name == "*" for alias in statement.names)
                self.imports |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in statement.names}


@dataclass(eq=False)
class Module:
    """A file of the app: its dotted name, its path below the app's folder, and its tree."""

    name: str
    path: PurePosixPath
    tree: ast.Module

    def __post_init__(self) -> None:
        self.scope = Scope(self, self.tree.body)

    def absolute(self, node: ast.ImportFrom) -> str:
        """The dotted name of the module that `node` imports from."""
        if not node.level:
            return node.module or ""
        package = self.name.split(".")
        drop = node.level - (self.path.name == "__init__.py")
        return ".".join([*package[: len(package) - drop], *([node.module] if node.module else [])])

    def dynamic(self) -> bool:
        """Whether reading cannot tell what names the module has."""
        return (
            self.scope.open_ended
            or "__getattr__" in self.scope.names
            or any(isinstance(node, ast.Name) and node.id == "globals" for node in ast.walk(self.tree))
        )


@dataclass(frozen=True)
class App:
    """A name that stands for an app or for a function that makes one.

    `name` is empty for one that has none outside of a function or an expression.
    """

    module: Module
    name: str
    line: int
    asgi: bool = False
    factory: bool = False
    #: Arguments that a factory wants.
    needs: tuple[str, ...] = ()
    #: What it was made by, or the name it is another name for.
    source: App | None = None
    #: The call that made it: Flask(…).
    call: ast.Call | None = None
    #: Where the app is in what the name stands for: ".server" of Dash's, ".wsgifunc()" of web.py's.
    inner: str = ""

    def named(self, module: Module, name: str, line: int) -> App:
        """The same app under another name."""
        return replace(self, module=module, name=name, line=line, source=self if self.name else self.source)

    @property
    def root(self) -> App:
        """Where the app is made."""
        return self.source.root if self.source else self

    @property
    def wsgi(self) -> str:
        """As the recipe names it."""
        return f"{self.module.name}:{self.name}" + ("()" if self.factory else "") + self.inner

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.module.path}:{self.line}"

    @property
    def rank(self) -> tuple[object, ...]:
        """Best first, among the names of one app: ready made, in wsgi.py, where it is made, by its usual name."""
        last = self.module.name.rpartition(".")[2]
        usual = USUAL_FACTORIES if self.factory else USUAL_NAMES
        served_from = last in ("app", "main") or self.module is self.root.module
        # The last of several in one file is the one that middleware has been put around.
        where = (self.module.name.count("."), self.module.name, -self.line)
        return (self.factory, last != "wsgi", not served_from, self.name not in usual, *where)


def statements(body: list[ast.stmt], main: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements that run with `body`, and whether only when the file is run as a program."""
    for statement in body:
        yield statement, main
        if isinstance(statement, Function | ast.ClassDef):
            continue
        guard = isinstance(statement, ast.If) and "__main__" in ast.unparse(statement.test)
        for part in ("body", "orelse", "finalbody"):
            yield from statements(getattr(statement, part, []), main or (guard and part == "body"))
        for handler in getattr(statement, "handlers", []):
            yield from statements(handler.body, main)


def bindings(statement: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    """The names a statement binds, each with the node that says to what."""
    if isinstance(statement, Function | ast.ClassDef):
        yield statement.name, statement
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0], statement
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.For | ast.With):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement]
        for node in (node for target in targets for node in ast.walk(target)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id, statement


class Reader:
    """The app's modules, and what their names stand for."""

    def __init__(self, folder: Path, python: tuple[int, int]) -> None:
        self.folder = folder
        self.python = python
        #: Folders that a module's name does not begin with: the machine's Python looks into them.
        self.roots = ("src",) if (folder / "src").is_dir() and not (folder / "src" / "__init__.py").exists() else ()
        self.modules = {module.name: module for module in self.parse(source_files(folder))}

    def parse(self, paths: Iterable[PurePosixPath]) -> list[Module]:
        """The files as modules. AppSyntaxError names all that are not Python."""
        modules, faults = [], []
        for path in paths:
            parts = path.with_suffix("").parts
            parts = parts[1:] if parts[0] in self.roots and len(parts) > 1 else parts
            name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    modules.append(Module(name, path, ast.parse((self.folder / path).read_bytes(), str(path))))
            except OSError as error:
                raise AppFolderError(f"{path} cannot be read: {error.strerror}") from None
            except SyntaxError as error:
                faults.append((f"{path}:{error.lineno or 1}", error.msg, (error.text or "").strip()))
            except ValueError as error:  # null bytes
                faults.append((f"{path}:1", str(error), ""))
        if faults:
            hint, mine, theirs = "Mend the line.", sys.version_info[:2], self.python
            if mine < theirs:
                hint += " Python {}.{} read it here; newer syntax that the image's {}.{} knows is a fault too."
            raise AppSyntaxError(
                f"{faults[0][0]}: {faults[0][1]}",
                hint.format(*mine, *theirs),
                "\n".join(f"{where}: {line}" for where, _, line in faults),
            )
        return modules

    def apps(self) -> list[App]:
        """Every module-level name that stands for an app or a factory."""
        found = []
        for module in self.modules.values():
            for name in module.scope.names:
                app = self.look_up(module.scope, name)
                if app is not None:
                    found.append(app)
        if any(not app.asgi and not app.needs for app in found):
            return found
        return [*found, *(self._bottle() or self._promised())]

    def _bottle(self) -> list[App]:
        """The app that Bottle keeps itself, in the module that runs it, or else in the one that has routes."""
        for wanted in ({"bottle.run"}, BOTTLE_ROUTES):
            found = []
            for module in self.modules.values():
                calls = (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))
                line = next((node.lineno for node in calls if self._origin(module.scope, node.func) in wanted), 0)
                if line:
                    found.append(App(module, "bottle.default_app", line, factory=True))
            if found:
                return found
        return []

    def _promised(self) -> list[App]:
        """What a wsgi.py calls `application`: servers have always taken that for an app, whatever made it."""
        return [
            App(module, "application", getattr(module.scope.names["application"][-1], "lineno", 0))
            for module in self.modules.values()
            if module.name.rpartition(".")[2] == "wsgi"
            and "application" in module.scope.names
            and self.look_up(module.scope, "application") is None
        ]

    def look_up(self, scope: Scope, name: str, seen: frozenset[int] = frozenset()) -> App | None:
        """What `name` stands for; the last binding that is an app counts."""
        for node in reversed(scope.names.get(name, [])):
            if id(node) in seen:
                continue
            app = self._bound(scope, name, node, seen | {id(node)})
            if app is not None:
                return app
        return self.look_up(scope.parent, name, seen) if scope.parent and name not in scope.names else None

    def _bound(self, scope: Scope, name: str, node: ast.AST, seen: frozenset[int]) -> App | None:
        module, line = scope.module, getattr(node, "lineno", 0)
        app = None
        if isinstance(node, Function):
            return self._function(scope, node, seen)
        if isinstance(node, ast.Import | ast.ImportFrom):
            app = self._dotted(scope.imports.get(name, ""), seen)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            app = self._value(scope, node.value, seen, wrapped=name in USUAL_NAMES)
            if app is None and isinstance(node, ast.AnnAssign) and self.makes(scope, node.annotation, WSGI_MAKERS):
                app = App(module, "", line)
        return app and app.named(module, "" if scope.parent else name, line)

    def _value(self, scope: Scope, node: ast.AST | None, seen: frozenset[int], wrapped: bool = False) -> App | None:
        """The app an expression stands for."""
        if isinstance(node, ast.Call):
            for makers, asgi in ((WSGI_MAKERS, False), (ASGI_MAKERS, True)):
                if self.makes(scope, node.func, makers):
                    at = next((place for maker, place in INNER.items() if self.makes(scope, node.func, {maker})), "")
                    return App(scope.module, "", node.lineno, asgi, call=node, inner=at)
            if isinstance(node.func, ast.Attribute) and node.func.attr in WSGI_METHODS:
                whole = self._value(scope, node.func.value, seen)
                known = whole is not None and whole.inner == f".{node.func.attr}()"
                return replace(whole, inner="") if whole and known else App(scope.module, "", node.lineno, call=node)
            made = self._value(scope, node.func, seen)
            if made is not None and made.factory:
                return App(scope.module, "", node.lineno, made.asgi, source=made, call=made.call)
            if wrapped and node.args:  # app = Middleware(app) is still the app
                inner = self._value(scope, node.args[0], seen)
                return inner if inner and not inner.factory else None
        if isinstance(node, ast.Name):
            return self.look_up(scope, node.id, seen)
        if isinstance(node, ast.Attribute):
            whole = self._value(scope, node.value, seen)
            if whole is not None and whole.inner == f".{node.attr}":
                return replace(whole, inner="")
            return self._dotted(self._origin(scope, node), seen)
        return None

    def _function(self, scope: Scope, node: Function, seen: frozenset[int]) -> App | None:
        """A function as an app (by its arguments), or as a factory (by what it returns)."""
        named = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        if isinstance(node, ast.AsyncFunctionDef):
            asgi = named == ["scope", "receive", "send"]
            return App(scope.module, node.name, node.lineno, asgi=True) if asgi else None
        if named == ["environ", "start_response"]:
            return App(scope.module, node.name, node.lineno)
        inside = Scope(scope.module, node.body, scope)
        returns = [one.value for one, _ in statements(node.body) if isinstance(one, ast.Return)]
        made = next(filter(None, (self._value(inside, value, seen, wrapped=True) for value in returns)), None)
        if made is None and node.returns is not None and self.makes(scope, node.returns, WSGI_MAKERS):
            made = App(scope.module, "", node.lineno)
        if made is None or made.factory:
            return None
        needs = named[: len(named) - len(node.args.defaults)]
        needs += [one.arg for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if not value]
        factory = made.named(scope.module, node.name, node.lineno)
        return replace(factory, factory=True, needs=tuple(needs))

    def _origin(self, scope: Scope | None, node: ast.AST) -> str:
        """The dotted name an expression stands for, or nothing."""
        if isinstance(node, ast.Attribute):
            before = self._origin(scope, node.value)
            return before and f"{before}.{node.attr}"
        if isinstance(node, ast.Name):
            while scope is not None:
                if node.id in scope.imports:
                    return scope.imports[node.id]
                if node.id in scope.names:
                    return f"{scope.module.name}.{node.id}" if scope.parent is None else ""
                scope = scope.parent
        return ""

    def makes(self, scope: Scope, node: ast.AST, makers: set[str], depth: int = 0) -> bool:
        """Whether an expression is one of `makers`, or a class of ours that derives from one."""
        origin = self._origin(scope, node)
        if origin in makers:
            return True
        module, _, name = origin.rpartition(".")
        if module not in self.modules or depth > 8:
            return False
        there = self.modules[module].scope
        if name in there.imports:
            return there.imports[name] in makers
        return any(
            self.makes(there, base, makers, depth + 1)
            for one in there.names.get(name, [])
            if isinstance(one, ast.ClassDef)
            for base in one.bases
        )

    def _dotted(self, origin: str, seen: frozenset[int]) -> App | None:
        module, _, name = origin.rpartition(".")
        return self.look_up(self.modules[module].scope, name, seen) if module in self.modules else None


def source_files(folder: Path) -> Iterator[PurePosixPath]:
    """The files that could be modules of the app, below `folder`, in order."""
    for here, folders, files in os.walk(folder):
        where = Path(here)
        folders[:] = sorted(
            name
            for name in folders
            if name.isidentifier() and name not in SKIPPED_FOLDERS and not (where / name / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            if name.endswith(".py") and name[:-3].isidentifier() and not SKIPPED_FILES.fullmatch(name):
                yield PurePosixPath((where / name).relative_to(folder))
