"""Return the names in a syntax tree: dotted ones, the last part of a function's, and those that a module assigns."""

from __future__ import annotations

import ast

#: The maximum number of parts in a dotted name to follow.
MAX_DOTTED = 20


def dotted_name(node: ast.AST | None) -> str:
    """Return `a.b.c` as text, or "" for another expression, or one with more than MAX_DOTTED parts."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and len(parts) < MAX_DOTTED:
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def last_name(function: ast.expr) -> str:
    """Return the name of a function without the object that has it, or "" for another expression."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def assigned_values(tree: ast.Module) -> dict[str, ast.expr]:
    """Return the values that a module assigns to names at its top level. The last one counts."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
