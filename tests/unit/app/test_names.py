"""The names in expressions."""

import ast

import pytest

from bake.app.names import assigned_values, dotted_name, last_name


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("text", "dotted", "last"),
    [
        ("name", "name", "name"),
        ("os.environ.get", "os.environ.get", "get"),
        ("make().get", "", "get"),
        ("3", "", ""),
        (f"a{'.b' * 20}", f"a{'.b' * 20}", "b"),
        (f"a{'.b' * 21}", "", "b"),
    ],
)
def test_a_name_has_parts(text: str, dotted: str, last: str) -> None:
    assert (dotted_name(expression(text)), last_name(expression(text))) == (dotted, last)


def test_the_last_value_that_a_module_assigns_counts() -> None:
    values = assigned_values(ast.parse("A = B = 1\nA = 2\nC: int = 3\ndef f():\n    D = 4\n"))
    assert {name: ast.unparse(value) for name, value in values.items()} == {"A": "2", "B": "1"}
