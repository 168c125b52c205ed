"""Find the environment variables without which the import of a module fails."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bake.app.env_readers import EnvReader, env_reader, origin
from bake.app.names import last_name

#: Variables that every machine sets (50-sandbox.conf, systemd.exec(5)), or that bake sets for the app.
ALWAYS_SET = frozenset(
    (
        "HOME", "PATH", "USER", "LOGNAME", "SHELL", "LANG", "PYTHONUNBUFFERED", "PYTHONPATH", "SERVER_SOFTWARE",
        "FLASK_APP", "DJANGO_SETTINGS_MODULE",
    )
)  # fmt: skip
ENVIRON = "os.environ"
#: An object of the library that needs the most variables.
ANY_READER = EnvReader("environ")
#: Methods of os.environ that set variables.
SETTERS = ("setdefault", "update")
#: Functions that return None for a missing variable, and those that end a program.
GETTERS = ("os.getenv", "os.environ.get")
EXITS = ("exit", "quit", "sys.exit", "os._exit")
#: The last parts of the names of context managers whose body may fail, or reads variables with a prefix.
CONDITIONS = ("suppress", "prefixed")


@dataclass
class Variables:
    """The variables that a module needs, each with the line, and those that it sets itself."""

    reads: dict[str, int] = field(default_factory=dict)
    assigned_names: set[str] = field(default_factory=set)
    #: The objects that read variables, by their names.
    readers: dict[str, EnvReader] = field(default_factory=dict)
    #: The calls of imported objects that may read variables, with their names and methods.
    imported_calls: list[tuple[str, str, ast.Call]] = field(default_factory=list)


def find(body: list[ast.stmt], imports: Mapping[str, str], readers: Mapping[str, EnvReader] | None = None) -> Variables:
    """Return the variables that statements read while they run, without a condition or a default.

    `imports` maps names to what they refer to, as in `Scope`. `readers` are the objects that read variables so far.
    """
    search = _Search(imports, Variables(readers={**(readers or {})}))
    for statement in unconditional(body):
        search.statement(statement)
    return search.variables


def unconditional(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that always run, and run to their end, when a module is imported."""
    for statement in body:
        if isinstance(statement, ast.With):
            contexts = [item.context_expr for item in statement.items]
            names = [last_name(context.func) for context in contexts if isinstance(context, ast.Call)]
            if any(name in CONDITIONS for name in names):
                continue
        if isinstance(statement, ast.ClassDef | ast.With):
            yield from unconditional(statement.body)
        else:
            yield statement


@dataclass
class _Search:
    """A search for the variables of some statements. `optional` are names with the value of a variable, or None."""

    imports: Mapping[str, str]
    variables: Variables
    optional: dict[str, str] = field(default_factory=dict)

    def statement(self, statement: ast.stmt) -> None:
        """Note what a statement reads or sets."""
        for node in _evaluated_nodes(statement):
            self._expression(node)
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                if reader := env_reader(value, self.imports):
                    self.variables.readers[name] = reader
                self.optional[name] = self._optional_name(value)
            case ast.If(test=test, body=[*_, last]) if self._ends_program(last):
                for name in self._required_names(test):
                    self.variables.reads.setdefault(name, statement.lineno)
            case ast.If() | ast.Try() | ast.For():
                # It may assign another value to a name.
                nodes = ast.walk(statement)
                names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
                self.optional = {name: value for name, value in self.optional.items() if name not in names}

    def _expression(self, node: ast.AST) -> None:
        """Note NAME of `os.environ["NAME"]`, and the variables of a call."""
        match node:
            case ast.Call():
                self._call(node)
            case ast.Subscript(slice=ast.Constant(value=str(name))) if origin(node.value, self.imports) == ENVIRON:
                if isinstance(node.ctx, ast.Load):
                    self.variables.reads.setdefault(name, node.lineno)
                else:
                    self.variables.assigned_names.add(name)

    def _call(self, node: ast.Call) -> None:
        """Note the variables that a call sets, as `os.environ.update(NAME=…)` does, or reads, as `env("NAME")` does."""
        targets = [(node.func, "")]
        if isinstance(node.func, ast.Attribute):
            targets.append((node.func.value, node.func.attr))
            if node.func.attr in SETTERS and origin(node.func.value, self.imports) == ENVIRON:
                values = (constant.value for constant in ast.walk(node) if isinstance(constant, ast.Constant))
                self.variables.assigned_names.update(value for value in values if isinstance(value, str))
        for target, method in targets:
            name = target.id if isinstance(target, ast.Name) else ""
            if reader := self.variables.readers.get(name) or env_reader(target, self.imports):
                if variable := reader.required_name(node, method):
                    self.variables.reads.setdefault(variable, node.lineno)
            elif not {name, "*"}.isdisjoint(self.imports) and ANY_READER.required_name(node, method).isupper():
                self.variables.imported_calls.append((name, method, node))

    def _optional_name(self, node: ast.expr) -> str:
        """Return NAME of `os.getenv("NAME")`, or of a name with its value, or ""."""
        match node:
            case ast.Name(id=name):
                return self.optional.get(name, "")
            case ast.NamedExpr(value=value):
                return self._optional_name(value)
            case ast.Call(func=function, args=[ast.Constant(value=str(name))]):
                return name if origin(function, self.imports) in GETTERS and not node.keywords else ""
        return ""

    def _ends_program(self, statement: ast.stmt) -> bool:
        """Return whether a statement raises an error or ends the program."""
        match statement:
            case ast.Raise():
                return True
            case ast.Expr(value=ast.Call(func=function)):
                return origin(function, self.imports) in EXITS
        return False

    def _required_names(self, test: ast.expr) -> Iterator[str]:
        """Yield the variables without which a condition is true."""
        match test:
            case ast.BoolOp(op=ast.Or(), values=values):
                for value in values:
                    yield from self._required_names(value)
            case ast.Compare(left=ast.Constant(value=str(name)), ops=[ast.NotIn()], comparators=[container]):
                yield from [name] if origin(container, self.imports) == ENVIRON else []
            case ast.Compare(left=value, ops=[ast.Is() | ast.Eq()], comparators=[ast.Constant(value=None)]):
                yield from filter(None, [self._optional_name(value)])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                values = [operand]
                match operand:
                    case ast.BoolOp(op=ast.And(), values=parts):
                        values = parts
                    case ast.Call(func=ast.Name(id="all"), args=[ast.List(elts=parts) | ast.Tuple(elts=parts)]):
                        values = parts
                yield from filter(None, map(self._optional_name, values))


def _evaluated_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the expressions that a simple statement always evaluates, or the condition of an `if`."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr | ast.Delete | ast.If):
        return
    pending: list[ast.AST] = [statement.test if isinstance(statement, ast.If) else statement]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.BoolOp):
            pending.append(node.values[0])
        elif isinstance(node, ast.IfExp):
            pending.append(node.test)
        elif not isinstance(node, ast.Lambda | ast.GeneratorExp):
            pending += ast.iter_child_nodes(node)
