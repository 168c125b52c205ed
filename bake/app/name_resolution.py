"""Find the apps that the names in an app's Python files refer to.

This module follows a name through assignments, imports and calls to the call that
creates the app. Two names that lead to the same call are one app.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from bake.app import python_files
from bake.app.framework_versions import Kinds, kinds
from bake.app.frameworks import BOTTLE_ROUTES, INNER, MAKERS, WSGI_METHODS
from bake.app.memoization import Answers, Ask
from bake.app.names import dotted_name
from bake.app.scopes import END, RETURN, AppExpression, Binding, FunctionScope, Module, Scope

#: The framework of which an app may contain a copy.
BOTTLE = "bottle.Bottle"
#: The usual names of the app to serve.
USUAL_NAMES = ("app", "application")
#: Names that still refer to the app after `app = Middleware(app)`, and the return value of a function.
WRAPPED_NAMES = {*USUAL_NAMES, RETURN}
USUAL_FACTORIES = ("create_app", "make_app")
#: Names of modules for administration, and parts of the names of modules and packages for workers.
SCRIPT = re.compile(
    r"manage|cli|shell|console|commands|fabfile|tasks?|seeds?|populate\w*|(init|create|setup|drop)_?db|migrate\w*|deploy"
    r"|cron\w*|(backup|check|clean|delete|export|fetch|generate|import|load|remove|reset|send|sync|update)_\w+"
)
WORKER = re.compile(r"celery|(^|_)worker|(^|_)scheduler|(^|_)rq($|_)")


@dataclass(frozen=True, eq=False)
class App:
    """A name that refers to an app or to a function that returns one.

    `name` is "" if the app has a name only inside a function, or none.
    """

    module: Module
    name: str
    line: int
    asgi: bool = False
    factory: bool = False
    #: The required arguments of a factory.
    required_arguments: tuple[str, ...] = ()
    #: The app at the call that creates it, if this is another name for it.
    origin: App | None = None
    #: The call that creates it: Flask(…).
    call: ast.Call | None = None
    #: The attribute or call that gives the WSGI app: ".server" for Dash, ".wsgifunc()" for web.py.
    inner: str = ""
    #: The arguments of the factory's call that returned it, as source text.
    arguments: str = ""

    def with_name(self, module: Module, name: str, line: int) -> App:
        """Return the same app under another name."""
        origin = self.root if self.name or self.origin else None
        return replace(self, module=module, name=name, line=line, origin=origin)

    @property
    def root(self) -> App:
        """Return the app at the call that creates it."""
        return self.origin or self

    @property
    def key(self) -> str:
        """Return the recipe's key for the app."""
        return "asgi" if self.asgi else "wsgi"

    @property
    def target(self) -> str:
        """Return the value of `key` in the recipe."""
        return f"{self.module.name}:{self.name}" + ("()" if self.factory else "") + self.inner

    @property
    def location(self) -> str:
        """Return the location as `file:line`."""
        return f"{self.module.path}:{self.line}"

    @property
    def is_script(self) -> bool:
        """Return whether its module is a program for workers or for administration, by its name."""
        *packages, name = self.module.name.split(".")
        return bool(SCRIPT.fullmatch(name) or any(WORKER.search(part) for part in (*packages, name)))

    @property
    def is_private(self) -> bool:
        """Return whether its name or one of its module is private by convention: _create_app, shop._app."""
        names = (*self.module.name.split("."), self.name)
        return any(name.startswith("_") and not name.endswith("__") for name in names)

    @property
    def rank(self) -> tuple[object, ...]:
        """Return the sort key of a name of an app. Scripts are last.

        First are apps; then wsgi.py or asgi.py, the app's own module, and usual names.
        """
        module_name = self.module.name.rpartition(".")[2]
        usual_names = USUAL_FACTORIES if self.factory else USUAL_NAMES
        is_entry_module = module_name in ("app", "main") or self.module is self.root.module
        # In a file, the last name refers to the app with its middleware.
        is_elsewhere = self.module is not self.root.module
        position = (self.module.name.count("."), is_elsewhere, self.module.name, -self.line)
        is_script = self.is_script and is_elsewhere
        return (
            is_script,
            self.factory,
            module_name != self.key,
            not is_entry_module,
            self.name not in usual_names,
            *position,
        )


def _arguments(call: ast.Call) -> str:
    """Return the arguments of a call as source text, or "…" if Python cannot write them."""
    try:
        return ", ".join(ast.unparse(value) for value in (*call.args, *(keyword.value for keyword in call.keywords)))
    except (RecursionError, ValueError):  # nested too deeply, or a number of more than 4,300 digits
        return "…"


#: The modules whose facts hold for the Python of each target, by their paths.
PortableModules = dict[PurePosixPath, Module]
#: A name and the number of its bindings to consider, or an expression and its position in its scope.
Key = tuple[Scope, str | AppExpression, int]
AskApp = Ask[Key, App]


class Reader:
    """The app's modules, and the apps that their names refer to."""

    def __init__(self, folder: Path, python: tuple[int, int], portable: PortableModules | None = None) -> None:
        """Read the app's modules, except those that a reader for another target has read and added to `portable`."""
        self.folder = folder
        self.python = python
        self._portable = {} if portable is None else portable
        #: The requirements in the recipe, which may decide whether an app is a WSGI app.
        self.requirements: str | tuple[str, ...] | None = None
        #: Folders on the machine's sys.path, which are not part of a module's name.
        self.roots = ("src",) if (folder / "src").is_dir() and not (folder / "src" / "__init__.py").exists() else ()
        #: The files that bake could not parse.
        self.faults: dict[PurePosixPath, python_files.Fault] = {}
        #: All modules. An import of `shop` gives shop/__init__.py, and shop.py beside it can only be a program.
        self.files = self.parse(python_files.find(folder))
        self.modules = {module.name: module for module in self.files}
        #: The values in the settings of a Django project that `django` has read, by the name of the module.
        self.django_settings: dict[str, dict[str, ast.expr]] = {}
        self._classes = self._subclasses()
        self._answers = Answers(self._rule)

    @cached_property
    def _kinds(self) -> Kinds:
        """Return the callables that create an app, and whether it is an ASGI app."""
        users = (module.path for module in self.files if "connexion" in module.imported_packages)
        return kinds(self.folder, self.requirements, users)

    @cached_property
    def imported_packages(self) -> frozenset[str]:
        """Return the first parts of the names of all modules that the app imports."""
        return frozenset(name for module in self.modules.values() for name in module.imported_packages if name)

    def parse(self, paths: Iterable[PurePosixPath]) -> list[Module]:
        """Parse the files and return them as modules. Raises AppFolderError."""
        paths = list(paths)
        modules = {path: self._portable[path] for path in paths if path in self._portable}
        unread = [path for path in paths if path not in modules]
        for file in python_files.parse(self.folder, unread, self.python):
            module = Module(self._name(file.path), file.path, file.tree, file.skip_reason)
            modules[file.path] = module
            if file.is_portable:
                self._portable[file.path] = module
            if file.fault:
                self.faults[file.path] = file.fault
        return [modules[path] for path in paths if path in modules]

    def tree(self, module: Module) -> ast.Module:
        """Read a module again and return its tree, or an empty one if the file no longer exists."""
        files = python_files.parse(self.folder, [module.path], self.python)
        return next((file.tree for file in files), ast.Module([], []))

    def import_closure(self, *modules: Module) -> list[Module]:
        """Return modules of the app, and those that their imports at module level lead to, each once."""
        result, origins = dict.fromkeys(modules), set[str]()
        pending = [*result]
        while pending:
            scope = pending.pop().scope
            for origin in (*scope.imports.values(), *scope.loaded_modules):
                if origin not in origins:
                    origins.add(origin)
                    candidates = (self.modules.get(name) for name in (origin, origin.rpartition(".")[0]))
                    additions = [module for module in candidates if module and module not in result]
                    result.update(dict.fromkeys(additions))
                    pending += additions
        return sorted(result, key=lambda module: module.path)

    def _name(self, path: PurePosixPath) -> str:
        """Return the dotted name under which the machine's Python imports a file."""
        parts = path.with_suffix("").parts
        parts = parts[1:] if parts[0] in self.roots and len(parts) > 1 else parts
        return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)

    def _subclasses(self) -> dict[str, set[str]]:
        """Return the makers that the app's classes inherit from, by the dotted names of the classes."""
        children: dict[str, list[str]] = {}
        for module in self.modules.values():
            scope = module.scope
            if module.is_bottle:
                children.setdefault(BOTTLE, []).append(f"{module.name}.Bottle")
            if star_module := self.modules.get(scope.imports.get("*", "").removesuffix(".*")):
                for name in star_module.scope.bases:
                    children.setdefault(f"{star_module.name}.{name}", []).append(f"{module.name}.{name}")
            for name, origin in scope.imports.items():
                if origin in MAKERS:
                    children.setdefault(origin, []).append(f"{module.name}.{name}")
            for name, bases in scope.bases.items():
                for base in bases if name not in scope.imports else ():
                    children.setdefault(self._origin(scope, base), []).append(f"{module.name}.{name}")
        makers_by_class: dict[str, set[str]] = {}
        for maker in MAKERS:
            pending = [maker]
            for origin in pending:
                for child in children.get(origin, ()):
                    makers = makers_by_class.setdefault(child, set())
                    if maker not in makers:
                        makers.add(maker)
                        pending.append(child)
        return makers_by_class

    @cached_property
    def apps(self) -> list[App]:
        """Return every module-level name that refers to an app or a factory."""
        modules = [module for module in self.modules.values() if not module.is_bottle]
        lookups = (self.look_up(module.scope, name) for module in modules for name in module.scope.names)
        apps = [app for app in lookups if app]
        if any(not app.asgi and not app.required_arguments for app in apps):
            return apps
        return [*apps, *(self._bottle_apps() or self._conventional_apps())]

    def _bottle_apps(self) -> list[App]:
        """Return Bottle's default app, in the module that runs it, or else in the one with routes."""
        for names in ({"bottle.run"}, BOTTLE_ROUTES):
            apps = []
            for module in self.modules.values():
                lines = (line for name, line in module.calls.items() if self._origin(module.scope, name) in names)
                line = next(lines, 0)
                if line:
                    apps.append(App(module, "bottle.default_app", line, factory=True))
            if apps:
                return apps
        return []

    def _conventional_apps(self) -> list[App]:
        """Return each `application` in a wsgi.py, or that is another object's app. Servers load that name."""
        return [
            App(module, "application", binding.line)
            for module in self.modules.values()
            for binding in module.scope.names.get("application", ())[-1:]
            if (module.name.rpartition(".")[2] == "wsgi" or getattr(binding.value, "attr", "") == "app")
            and self.look_up(module.scope, "application") is None
            # Without its ASGI app, connexion 3 serves no pages by `app.app`.
            and self.look_up(module.scope, dotted_name(getattr(binding.value, "value", None))) is None
        ]

    def look_up(self, scope: Scope, name: str) -> App | None:
        """Return the app that `name` refers to. The last binding to an app counts."""
        return self._follow(scope, name, END, self._answers.get)

    def _follow(self, scope: Scope, name: str, position: int, ask: AskApp) -> App | None:
        """Return the app that `name` refers to at a position in a scope, or in an outer scope that binds it.

        Only the bindings before the position count. If none of them is an app, as in a loop, all bindings count.
        """
        while name not in scope.names:
            if scope.parent is None:
                return None
            # A function does not return itself. For its own name, only the bindings before it count.
            position = scope.position if isinstance(scope, FunctionScope) and scope.name == name else END
            scope = scope.parent
        bindings = scope.names[name]
        count = len(bindings)
        if position <= bindings[-1].position:
            count = bisect_left(bindings, position, key=lambda binding: binding.position)
        app = ask((scope, name, count)) if count else None
        return app or (ask((scope, name, len(bindings))) if count < len(bindings) else None)

    def _rule(self, key: Key, ask: AskApp) -> App | None:
        """Return the app that a name or an expression refers to. This is the rule of `Answers`."""
        scope, subject, position = key
        if not isinstance(subject, str):
            return self._expression_app(scope, subject, position, ask)
        app = self._bound_app(scope, subject, scope.names[subject][position - 1], ask)
        return app or (ask((scope, subject, position - 1)) if position > 1 else None)

    def _bound_app(self, scope: Scope, name: str, binding: Binding, ask: AskApp) -> App | None:
        """Return the app that a statement binds a name to, or that a function returns."""
        app = None
        if isinstance(binding.value, FunctionScope):
            return self._function_app(binding.value, ask)
        if binding.is_import:
            app = self._dotted_app(scope.imports.get(name, ""), ask)
        elif binding.value:
            app = self._expression_app(
                scope, binding.value, binding.position, ask, may_be_wrapped=name in WRAPPED_NAMES
            )
        else:
            declaring_scope = scope.parent if name == RETURN else scope
            for makers, asgi in self._kinds:
                if self.makes(declaring_scope, binding.declared_type, makers):
                    app = App(scope.module, "", binding.line, asgi)
        if app is None or name == RETURN:
            return app
        return app.with_name(scope.module, "" if scope.parent else name, binding.line)

    def _expression_app(
        self, scope: Scope, node: AppExpression, position: int, ask: AskApp, may_be_wrapped: bool = False
    ) -> App | None:
        """Return the app that an expression evaluates to."""

        def part(node: ast.expr) -> App | None:
            if isinstance(node, ast.Name):
                return self._follow(scope, node.id, position, ask)
            return ask((scope, node, position)) if isinstance(node, AppExpression) else None

        if isinstance(node, ast.Name):
            return part(node)
        if isinstance(node, ast.Attribute):
            container = part(node.value)
            if container is not None and container.inner == f".{node.attr}":
                return replace(container, inner="")
            return self._dotted_app(self._origin(scope, dotted_name(node)), ask)
        function = dotted_name(node.func)
        for makers, asgi in self._kinds:
            if self.makes(scope, function, makers):
                inner = (attribute for maker, attribute in INNER.items() if self.makes(scope, function, {maker}))
                return App(scope.module, "", node.lineno, asgi, call=node, inner="" if asgi else next(inner, ""))
        if isinstance(node.func, ast.Attribute) and node.func.attr in WSGI_METHODS:
            container = part(node.func.value)
            is_inner = container is not None and container.inner == f".{node.func.attr}()"
            return (
                replace(container, inner="")
                if container and is_inner
                else App(scope.module, "", node.lineno, call=node)
            )
        factory = part(node.func)
        if factory is not None and factory.factory:
            created_app = App(scope.module, "", node.lineno, factory.asgi, origin=factory.root, call=factory.call)
            return replace(created_app, arguments=_arguments(node))
        if may_be_wrapped and node.args:  # app = Middleware(app) is still the app
            app = part(node.args[0])
            return app if app and not app.factory else None
        return None

    def _function_app(self, function: FunctionScope, ask: AskApp) -> App | None:
        """Return a function as an app if it has the arguments of one, or as a factory if it returns one."""
        module, line = function.module, function.line
        if function.asynchronous:
            asgi = function.arguments == ["scope", "receive", "send"]
            return App(module, function.name, line, asgi=True) if asgi else None
        if function.arguments == ["environ", "start_response"]:
            return App(module, function.name, line)
        bindings = function.names.get(RETURN, ())
        app = ask((function, RETURN, len(bindings))) if bindings else None
        if app is None or app.factory:
            return None
        return replace(
            app.with_name(module, function.name, line),
            factory=True,
            required_arguments=tuple(function.required_arguments),
        )

    def _origin(self, scope: Scope | None, name: str) -> str:
        """Return the full dotted name for a dotted name in a scope, or ""."""
        first, dot, suffix = name.partition(".")
        while scope is not None:
            if first in scope.imports:
                return scope.imports[first] + dot + suffix
            if first in scope.names:
                return "" if scope.parent else f"{scope.module.name}.{name}"
            scope = scope.parent
        return ""

    def makes(self, scope: Scope | None, name: str, makers: set[str]) -> bool:
        """Return whether a dotted name in a scope is one of `makers`, or a class of the app that inherits from one."""
        origin = self._origin(scope, name)
        return origin in makers or not makers.isdisjoint(self._classes.get(origin, ()))

    def _dotted_app(self, origin: str, ask: AskApp) -> App | None:
        """Return the app that a full dotted name refers to in the app's modules."""
        module, _, name = origin.rpartition(".")
        return self._follow(self.modules[module].scope, name, END, ask) if module in self.modules else None
