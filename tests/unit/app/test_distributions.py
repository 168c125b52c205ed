"""bake knows the distributions of common modules, and guesses none."""

from __future__ import annotations

import pytest
from packaging.utils import canonicalize_name

from bake.app.distributions import OTHER_NAMES, SAME_NAMES, distribution


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("yaml", "PyYAML"),
        ("flask_login", "flask-login"),
        ("flask", "flask"),
        ("flask_appbuilder", "flask-appbuilder"),
        ("oscar", "django-oscar"),
        ("models", None),
        ("helpers", None),
    ],
)
def test_only_a_module_in_the_table_has_a_distribution(module: str, name: str | None) -> None:
    assert distribution(module) == name


def test_each_module_is_in_one_table() -> None:
    assert not SAME_NAMES & OTHER_NAMES.keys()
    names = [name for name, known in OTHER_NAMES.items() if canonicalize_name(name) == canonicalize_name(known)]
    assert names == []
