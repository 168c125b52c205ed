"""Dependencies of a Poetry project, as pip and uv read them."""

from __future__ import annotations

import pytest

from bake.app import poetry


@pytest.mark.parametrize(
    ("constraint", "specifiers"),
    [
        ("*", ""),
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^0", ">=0,<1"),
        ("~1.2.3", ">=1.2.3,<1.3"),
        ("~1", ">=1,<2"),
        ("~=1.2", "~=1.2"),
        ("1.2", "==1.2"),
        ("1.*", "==1.*"),
        (">= 1.2, <2", ">=1.2,<2"),
        (">=1.2 <2", ">=1.2,<2"),
        ("^2.0b1", ">=2.0b1,<3"),
    ],
)
def test_a_constraint_becomes_specifiers(constraint: str, specifiers: str) -> None:
    assert poetry.specifiers(constraint) == specifiers


@pytest.mark.parametrize("constraint", ["^1 || ^2", "latest", ">=1 nonsense"])
def test_a_constraint_without_an_equal_is_unsupported(constraint: str) -> None:
    with pytest.raises(poetry.UnsupportedError, match="the constraint"):
        poetry.specifiers(constraint)


def test_dependencies_become_requirements() -> None:
    dependencies = {
        "python": "^3.9",
        "flask": "^3.0",
        "redis": {"version": ">=5", "extras": ["hiredis"]},
        "psycopg2": {"version": "*", "optional": True},
        "tomli": [{"version": "^2", "python": "<3.11"}, {"version": "*", "markers": "os_name == 'nt'"}],
        "six": {"git": "https://code.example/six.git", "rev": "abc"},
        "lib": {"path": "../lib"},
    }
    assert poetry.requirements(dependencies) == (
        "flask>=3.0,<4",
        "redis[hiredis]>=5",
        'tomli>=2,<3 ; python_version < "3.11"',
        "tomli ; (os_name == 'nt')",
        "six @ git+https://code.example/six.git@abc",
        "lib @ file:../lib",
    )
