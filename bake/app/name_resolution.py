"""What the names in an app's Python files stand for.

A name in a module is followed through assignments, imports and calls to the
place where the app is made; two names that end in the same place are one app.
"""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from bake.app import python_files
from bake.app.fixpoint import Answers, Ask
from bake.app.scopes import END, RETURN, Binding, Followed, FunctionScope, Module, Scope, dotted

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
#: Starts a server of its own, with the arguments of cherrypy.tree.mount.
QUICKSTART = "cherrypy.quickstart"
MAKERS = {*WSGI_MAKERS, *ASGI_MAKERS, QUICKSTART}
#: Names people give the one that is to be served.
USUAL_NAMES = ("app", "application")
#: Names of which `app = Middleware(app)` is still the app, and what a function returns.
WRAPPED = {*USUAL_NAMES, RETURN}
USUAL_FACTORIES = ("create_app", "make_app")


@dataclass(frozen=True, eq=False)
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
    #: The app that this one is another name for, where it is made.
    origin: App | None = None
    #: The call that made it: Flask(…).
    call: ast.Call | None = None
    #: Where the app is in what the name stands for: ".server" of Dash's, ".wsgifunc()" of web.py's.
    inner: str = ""

    def named(self, module: Module, name: str, line: int) -> App:
        """The same app under another name."""
        origin = self.root if self.name or self.origin else None
        return replace(self, module=module, name=name, line=line, origin=origin)

    @property
    def root(self) -> App:
        """Where the app is made."""
        return self.origin or self

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


#: A name and how many of its bindings count, or an expression and its place in its scope.
Key = tuple[Scope, str | Followed, int]
AskApp = Ask[Key, App]


class Reader:
    """The app's modules, and what their names stand for."""

    def __init__(self, folder: Path, python: tuple[int, int]) -> None:
        self.folder = folder
        self.python = python
        #: Folders that a module's name does not begin with: the machine's Python looks into them.
        self.roots = ("src",) if (folder / "src").is_dir() and not (folder / "src" / "__init__.py").exists() else ()
        self.modules = {module.name: module for module in self.parse(python_files.find(folder))}
        self._classes = self._derived()
        self._answers = Answers(self._answer)

    def parse(self, paths: Iterable[PurePosixPath]) -> list[Module]:
        """Return the files as modules. Raises AppSyntaxError and AppFolderError."""
        return [
            Module(self._name(file.path), file.path, file.tree, file.unread)
            for file in python_files.parse(self.folder, paths, self.python)
        ]

    def tree(self, module: Module) -> ast.Module:
        """Return a module's tree, read again; an empty one where the file is gone."""
        files = python_files.parse(self.folder, [module.path], self.python)
        return next((file.tree for file in files), ast.Module([], []))

    def _name(self, path: PurePosixPath) -> str:
        """Return the dotted name under which the machine's Python imports a file."""
        parts = path.with_suffix("").parts
        parts = parts[1:] if parts[0] in self.roots and len(parts) > 1 else parts
        return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)

    def _derived(self) -> dict[str, set[str]]:
        """Return the makers that the app's classes derive from, by the dotted names of the classes."""
        children: dict[str, list[str]] = {}
        for module in self.modules.values():
            scope = module.scope
            for name, origin in scope.imports.items():
                if origin in MAKERS:
                    children.setdefault(origin, []).append(f"{module.name}.{name}")
            for name, bases in scope.bases.items():
                for base in bases if name not in scope.imports else ():
                    children.setdefault(self._origin(scope, base), []).append(f"{module.name}.{name}")
        derived: dict[str, set[str]] = {}
        for maker in MAKERS:
            pending = [maker]
            for origin in pending:
                for child in children.get(origin, ()):
                    makers = derived.setdefault(child, set())
                    if maker not in makers:
                        makers.add(maker)
                        pending.append(child)
        return derived

    def apps(self) -> list[App]:
        """Every module-level name that stands for an app or a factory."""
        named = (self.look_up(module.scope, name) for module in self.modules.values() for name in module.scope.names)
        found = [app for app in named if app]
        if any(not app.asgi and not app.needs for app in found):
            return found
        return [*found, *(self._bottle() or self._promised())]

    def _bottle(self) -> list[App]:
        """The app that Bottle keeps itself, in the module that runs it, or else in the one that has routes."""
        for wanted in ({"bottle.run"}, BOTTLE_ROUTES):
            found = []
            for module in self.modules.values():
                lines = (line for name, line in module.calls.items() if self._origin(module.scope, name) in wanted)
                line = next(lines, 0)
                if line:
                    found.append(App(module, "bottle.default_app", line, factory=True))
            if found:
                return found
        return []

    def _promised(self) -> list[App]:
        """What a wsgi.py calls `application`: servers have always taken that for an app, whatever made it."""
        return [
            App(module, "application", module.scope.names["application"][-1].line)
            for module in self.modules.values()
            if module.name.rpartition(".")[2] == "wsgi"
            and "application" in module.scope.names
            and self.look_up(module.scope, "application") is None
        ]

    def look_up(self, scope: Scope, name: str) -> App | None:
        """Return what `name` stands for; the last binding that is an app counts."""
        return self._followed(scope, name, END, self._answers.get)

    def _followed(self, scope: Scope, name: str, at: int, ask: AskApp) -> App | None:
        """Return what `name` stands for at a place in a scope, or in an outer scope that binds it.

        The bindings before the place count, and where none of them is an app, as in a loop, all of them.
        """
        while name not in scope.names:
            if scope.parent is None:
                return None
            # What a function returns is not the function itself.
            at = scope.at if isinstance(scope, FunctionScope) and scope.name == name else END
            scope = scope.parent
        bindings = scope.names[name]
        count = len(bindings)
        if at <= bindings[-1].at:
            count = bisect_left(bindings, at, key=lambda binding: binding.at)
        app = ask((scope, name, count)) if count else None
        return app or (ask((scope, name, len(bindings))) if count < len(bindings) else None)

    def _answer(self, key: Key, ask: AskApp) -> App | None:
        """Return what a name or an expression stands for. This is the rule of `Answers`."""
        scope, what, at = key
        if not isinstance(what, str):
            return self._value(scope, what, at, ask)
        app = self._bound(scope, what, scope.names[what][at - 1], ask)
        return app or (ask((scope, what, at - 1)) if at > 1 else None)

    def _bound(self, scope: Scope, name: str, binding: Binding, ask: AskApp) -> App | None:
        """Return the app that a statement binds a name to, or that a function returns."""
        app = None
        if isinstance(binding.value, FunctionScope):
            return self._function(binding.value, ask)
        if binding.imported:
            app = self._dotted(scope.imports.get(name, ""), ask)
        elif binding.value:
            app = self._value(scope, binding.value, binding.at, ask, wrapped=name in WRAPPED)
        elif self.makes(scope.parent if name == RETURN else scope, binding.declared, WSGI_MAKERS):
            app = App(scope.module, "", binding.line)
        if app is None or name == RETURN:
            return app
        return app.named(scope.module, "" if scope.parent else name, binding.line)

    def _value(self, scope: Scope, node: Followed, at: int, ask: AskApp, wrapped: bool = False) -> App | None:
        """Return the app that an expression stands for."""

        def part(node: ast.expr) -> App | None:
            if isinstance(node, ast.Name):
                return self._followed(scope, node.id, at, ask)
            return ask((scope, node, at)) if isinstance(node, Followed) else None

        if isinstance(node, ast.Name):
            return part(node)
        if isinstance(node, ast.Attribute):
            whole = part(node.value)
            if whole is not None and whole.inner == f".{node.attr}":
                return replace(whole, inner="")
            return self._dotted(self._origin(scope, dotted(node)), ask)
        called = dotted(node.func)
        for makers, asgi in ((WSGI_MAKERS, False), (ASGI_MAKERS, True)):
            if self.makes(scope, called, makers):
                inner = next((place for maker, place in INNER.items() if self.makes(scope, called, {maker})), "")
                return App(scope.module, "", node.lineno, asgi, call=node, inner=inner)
        if isinstance(node.func, ast.Attribute) and node.func.attr in WSGI_METHODS:
            whole = part(node.func.value)
            known = whole is not None and whole.inner == f".{node.func.attr}()"
            return replace(whole, inner="") if whole and known else App(scope.module, "", node.lineno, call=node)
        made = part(node.func)
        if made is not None and made.factory:
            return App(scope.module, "", node.lineno, made.asgi, origin=made.root, call=made.call)
        if wrapped and node.args:  # app = Middleware(app) is still the app
            app = part(node.args[0])
            return app if app and not app.factory else None
        return None

    def _function(self, function: FunctionScope, ask: AskApp) -> App | None:
        """Return a function as an app (by its arguments), or as a factory (by what it returns)."""
        module, line = function.module, function.line
        if function.asynchronous:
            asgi = function.arguments == ["scope", "receive", "send"]
            return App(module, function.name, line, asgi=True) if asgi else None
        if function.arguments == ["environ", "start_response"]:
            return App(module, function.name, line)
        returned = function.names.get(RETURN, ())
        made = ask((function, RETURN, len(returned))) if returned else None
        if made is None or made.factory:
            return None
        return replace(made.named(module, function.name, line), factory=True, needs=tuple(function.needs))

    def _origin(self, scope: Scope | None, name: str) -> str:
        """Return the full dotted name that a dotted name in a scope stands for, or nothing."""
        first, dot, rest = name.partition(".")
        while scope is not None:
            if first in scope.imports:
                return scope.imports[first] + dot + rest
            if first in scope.names:
                return "" if scope.parent else f"{scope.module.name}.{name}"
            scope = scope.parent
        return ""

    def makes(self, scope: Scope | None, name: str, makers: set[str]) -> bool:
        """Whether a dotted name in a scope is one of `makers`, or a class of the app that derives from one."""
        origin = self._origin(scope, name)
        return origin in makers or not makers.isdisjoint(self._classes.get(origin, ()))

    def _dotted(self, origin: str, ask: AskApp) -> App | None:
        """Return what a full dotted name stands for in the app's modules."""
        module, _, name = origin.rpartition(".")
        return self._followed(self.modules[module].scope, name, END, ask) if module in self.modules else None
