"""Reduce Python files to the facts that detection needs: the names that they bind, import and call.

This module does not keep their trees, because the trees of 39 MB of source use 1 GB of memory.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from bake.app import session_keys, variables, written_paths
from bake.app.names import dotted_name

#: The key in `Scope.names` for the return values of a function. It is a keyword, so it cannot be a name.
RETURN = "return"
#: A position after all bindings of a scope.
END = sys.maxsize

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: Expressions that may evaluate to an app.
AppExpression = ast.Call | ast.Name | ast.Attribute


@dataclass(eq=False, slots=True)
class Binding:
    """The value that a statement binds a name to: an import, a function, an expression, a declared type, or another.

    `at` is the number of the statement in its scope.
    """

    position: int
    line: int
    value: AppExpression | FunctionScope | None = None
    #: The dotted name of the type.
    declared_type: str = ""
    is_import: bool = False


class Scope:
    """The names of a module or of a function: each with its bindings, in order."""

    def __init__(self, module: Module, body: Iterable[tuple[ast.stmt, bool]], parent: Scope | None = None) -> None:
        self.module = module
        self.parent = parent
        self.names: dict[str, list[Binding]] = {}
        #: Imported names, and the dotted names that they refer to.
        self.imports: dict[str, str] = {}
        #: The complete names of modules that `import a.b` loads, although it binds only `a`.
        self.loaded_modules: set[str] = set()
        #: Classes, and the dotted names of their bases.
        self.bases: dict[str, list[str]] = {}
        #: Names bound inside `if __name__ == "__main__"`, which do not exist if the module is imported.
        self.main_names: set[str] = set()
        #: Whether `from … import *` may bind more names.
        self.open_ended = False
        for number, (statement, main) in enumerate(body):
            names = list(bound_names(statement))
            if main:
                self.main_names.update(names)
            elif names:
                bindings = list(self._bindings(number, statement))
                for name in names:
                    self.names.setdefault(name, []).extend(bindings)
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    name = alias.name if alias.asname else alias.name.partition(".")[0]
                    self.imports[alias.asname or name] = name
                    self.loaded_modules.add(alias.name)
            elif isinstance(statement, ast.ImportFrom):
                origin = module.absolute(statement)
                self.open_ended |= any(alias.name == "*" for alias in statement.names)
                self.imports |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in statement.names}
            elif isinstance(statement, ast.ClassDef) and not main:
                self.bases.setdefault(statement.name, []).extend(filter(None, map(dotted_name, statement.bases)))

    def _bindings(self, number: int, statement: ast.stmt) -> Iterator[Binding]:
        """Yield the bindings of a statement, the best last."""
        value: AppExpression | FunctionScope | None = None
        if isinstance(statement, Function):
            value = FunctionScope(statement, self, number)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, AppExpression):
            value = statement.value
        if isinstance(statement, ast.AnnAssign):
            yield Binding(number, statement.lineno, declared_type=dotted_name(statement.annotation))
        yield Binding(number, statement.lineno, value, is_import=isinstance(statement, ast.Import | ast.ImportFrom))


class FunctionScope(Scope):
    """A function: its names, its arguments, and its return values (`names[RETURN]`, the first value last)."""

    def __init__(self, node: Function, parent: Scope, position: int) -> None:
        body = list(statements(node.body))
        values = [
            statement.value
            for statement, _ in body
            if isinstance(statement, ast.Return) and isinstance(statement.value, AppExpression)
        ]
        super().__init__(parent.module, body if values else (), parent)
        #: The declared type comes last, after the values.
        bindings = [Binding(END, node.lineno, declared_type=dotted_name(node.returns))] if node.returns else []
        bindings += (Binding(END, value.lineno, value) for value in reversed(values))
        if bindings:
            self.names[RETURN] = bindings
        self.name = node.name
        self.position = position
        self.line = node.lineno
        self.asynchronous = isinstance(node, ast.AsyncFunctionDef)
        #: Positional arguments, and all arguments without a default.
        self.arguments = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        keywords = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        self.required_arguments = self.arguments[: len(self.arguments) - len(node.args.defaults)]
        self.required_arguments += [argument.arg for argument, default in keywords if not default]


class Module:
    """A file of the app: its dotted name, its path below the app's folder, and the facts in it."""

    def __init__(self, name: str, path: PurePosixPath, tree: ast.Module, skip_reason: str = "") -> None:
        self.name = name
        self.path = path
        #: Why bake did not read the file, or "".
        self.skip_reason = skip_reason
        self.scope = Scope(self, statements(tree.body))
        #: Whether the source does not show all names of the module.
        self.dynamic = bool(skip_reason) or self.scope.open_ended or "__getattr__" in self.scope.names
        #: The dotted names it calls, each with the line of a call.
        self.calls: dict[str, int] = {}
        #: Whether it serves uploads as Django's tutorials do: static(settings.MEDIA_URL, …).
        self.serves_media = False
        #: The modules it imports, by the first part of their names.
        self.imported_packages: set[str] = set()
        #: The values that it sets DJANGO_SETTINGS_MODULE to.
        self.settings: list[str] = []
        #: Whether it serves the app when it is run as a program.
        self.serves = any(main and _serves(statement) for statement, main in statements(tree.body))
        #: Whether it is a copy of Bottle, which is one file, as its documentation suggests.
        self.is_bottle = name.rpartition(".")[2] == "bottle" and "Bottle" in self.scope.bases
        nodes = list(ast.walk(tree))
        self.session_keys = list(session_keys.find(tree, nodes))
        self.variables = variables.find(tree.body, self.scope.imports)
        self.writes = list(dict.fromkeys(written_paths.find(nodes)))
        for node in nodes:
            if isinstance(node, ast.Call):
                self._call(node)
            elif isinstance(node, ast.Assign):
                self._assign(node)
            elif isinstance(node, ast.Name):
                self.dynamic |= node.id == "globals"
            elif isinstance(node, ast.Import):
                self.imported_packages.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                self.imported_packages.add((node.module or "").partition(".")[0])

    def _call(self, node: ast.Call) -> None:
        function = dotted_name(node.func)
        if function:
            self.calls.setdefault(function, node.lineno)
        match node.args:
            case [ast.Constant(value="DJANGO_SETTINGS_MODULE"), ast.Constant(value=str(name))]:
                self.settings.append(name)
            case [first, *_] if function.rpartition(".")[2] == "static" and dotted_name(first).endswith("MEDIA_URL"):
                self.serves_media = True

    def _assign(self, node: ast.Assign) -> None:
        """Note the settings module in `os.environ["DJANGO_SETTINGS_MODULE"] = "…"`."""
        match node:
            case ast.Assign(
                targets=[ast.Subscript(slice=ast.Constant(value="DJANGO_SETTINGS_MODULE"))],
                value=ast.Constant(value=str(name)),
            ):
                self.settings.append(name)

    def absolute(self, node: ast.ImportFrom) -> str:
        """Return the dotted name of the module that `node` imports from."""
        if not node.level:
            return node.module or ""
        package = self.name.split(".")
        drop = node.level - (self.path.name == "__init__.py")
        return ".".join([*package[: len(package) - drop], *([node.module] if node.module else [])])


def statements(body: list[ast.stmt], main: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield the statements that run with `body`, and whether each one runs only if the file runs as a program."""
    pending = [(statement, main) for statement in reversed(body)]
    while pending:
        statement, main = pending.pop()
        yield statement, main
        if isinstance(statement, Function | ast.ClassDef):
            continue
        guard = isinstance(statement, ast.If) and asks_for_main(statement.test)
        inner = [(child, main or guard) for child in getattr(statement, "body", ())]
        for holder, part in (
            (statement, "orelse"),
            (statement, "finalbody"),
            *((handler, "body") for handler in getattr(statement, "handlers", ())),
        ):
            inner += [(child, main) for child in getattr(holder, part, ())]
        pending += reversed(inner)


def asks_for_main(test: ast.expr) -> bool:
    """Return whether a condition contains `__main__`."""
    words = (value for node in ast.walk(test) for value in vars(node).values())
    return any("__main__" in word for word in words if isinstance(word, str))


#: The last parts of the names of functions that serve an app, or that usually contain such a call.
SERVERS = {"run", "run_simple", "run_app", "serve", "serve_forever", "quickstart", "start", "main", "cli"}


def _serves(statement: ast.stmt) -> bool:
    """Return whether a statement calls one of SERVERS. Calls inside a definition do not count."""
    if isinstance(statement, Function | ast.ClassDef):
        return False
    calls = (node.func for node in ast.walk(statement) if isinstance(node, ast.Call))
    return any(getattr(function, "attr", getattr(function, "id", "")) in SERVERS for function in calls)


def bound_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds, except those in its body."""
    if isinstance(statement, Function | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names if alias.name != "*")
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.For | ast.With):
        parts: list[ast.AST] = []
        if isinstance(statement, ast.Assign):
            parts += statement.targets
        elif isinstance(statement, ast.With):
            parts += statement.items
        elif isinstance(statement, ast.For):
            parts += [statement.target, statement.iter]
        else:
            parts.append(statement)
        for node in (node for part in parts for node in ast.walk(part)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
