"""The names in expressions."""

import ast

import pytest

from bake.app.names import dotted_name, last_name


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
