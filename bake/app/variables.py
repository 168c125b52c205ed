"""Find the environment variables without which the import of a module fails."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Statements whose bodies run without a condition when the module is imported.
UNCONDITIONAL = ast.ClassDef | ast.With
#: Variables that every machine sets (50-sandbox.conf, systemd.exec(5)), or that bake sets for the app.
ALWAYS_SET = frozenset(
    (
        "HOME", "PATH", "USER", "LOGNAME", "SHELL", "LANG", "PYTHONUNBUFFERED", "PYTHONPATH", "SERVER_SOFTWARE",
        "FLASK_APP", "DJANGO_SETTINGS_MODULE",
    )
)  # fmt: skip
#: Methods of os.environ that set variables.
SETTERS = ("setdefault", "update")


@dataclass
class Variables:
    """The variables that a module needs, each with the line, and those that it sets itself."""

    reads: dict[str, int] = field(default_factory=dict)
    assigned_names: set[str] = field(default_factory=set)


def find(tree: ast.Module) -> Variables:
    """Return the variables that a module reads while it is imported, without a condition or a default.

    It reads them as `os.environ["NAME"]`, or as `config("NAME")` of python-decouple.
    """
    variables = Variables()
    has_decouple = any(isinstance(node, ast.ImportFrom) and node.module == "decouple" for node in tree.body)
    for statement in unconditional(tree.body):
        for node in _evaluated_nodes(statement):
            match node:
                case ast.Call(func=ast.Name(id="config"), args=[ast.Constant(value=str(name))]) if has_decouple:
                    if not any(keyword.arg in ("default", None) for keyword in node.keywords):
                        variables.reads.setdefault(name, node.lineno)
            if (name := _name(node)) and isinstance(node, ast.Subscript):
                if isinstance(node.ctx, ast.Load):
                    variables.reads.setdefault(name, node.lineno)
                else:
                    variables.assigned_names.add(name)
            elif isinstance(node, ast.Call) and _sets(node.func):
                values = (constant.value for constant in ast.walk(node) if isinstance(constant, ast.Constant))
                variables.assigned_names.update(value for value in values if isinstance(value, str))
    return variables


def unconditional(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that always run, and run to their end, when a module is imported."""
    for statement in body:
        if isinstance(statement, UNCONDITIONAL):
            yield from unconditional(statement.body)
        else:
            yield statement


def _evaluated_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the expressions that a simple statement always evaluates."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr | ast.Delete):
        return
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, ast.Lambda | ast.BoolOp | ast.IfExp | ast.GeneratorExp):
            pending += ast.iter_child_nodes(node)


def _name(node: ast.AST) -> str:
    """Return NAME of `os.environ["NAME"]`, or ""."""
    match node:
        case ast.Subscript(value=value, slice=ast.Constant(value=str(name))) if _is_environ(value):
            return name
    return ""


def _sets(function: ast.expr) -> bool:
    """Return whether an expression is a method that sets variables."""
    return isinstance(function, ast.Attribute) and function.attr in SETTERS and _is_environ(function.value)


def _is_environ(node: ast.expr) -> bool:
    """Return whether an expression is `os.environ` or `environ`."""
    match node:
        case ast.Name(id="environ") | ast.Attribute(value=ast.Name(id="os"), attr="environ"):
            return True
    return False
