"""The refusal of requirements without a wheel. tests/unit/bundle/test_lock.py has uv's real explanations."""

from __future__ import annotations

from bake.bundle.resolution_errors import no_wheel_error, resolution_error
from bake.config.debian import DEBIAN_13


def test_a_requirement_without_a_wheel_is_named_with_its_place_and_the_way_out() -> None:
    error = no_wheel_error({"a==1.0": "requirements.txt:3"}, DEBIAN_13, builds=True)
    assert error.message == "requirements.txt:3: a==1.0 has no wheel for Python 3.13 on debian-13"
    assert error.hint.endswith("`bake image` builds a wheel from its source.") and "instead of" not in error.hint
    error = no_wheel_error({"mysqlclient==2.2.7": "", "psycopg2==2.9": ""}, DEBIAN_13, builds=True)
    assert "PyMySQL, with pymysql.install_as_MySQLdb(), instead of mysqlclient; psycopg2-binary, instead" in error.hint


def test_all_requirements_without_a_wheel_are_named_at_once() -> None:
    error = no_wheel_error({"a==1.0": "requirements.txt:3", "b==2.0": ""}, DEBIAN_13, builds=False)
    assert "2 requirements have no wheel" in error.message
    assert "a==1.0 (requirements.txt:3), b==2.0" in error.message
    assert "Without `build: off`" in error.hint


def test_a_requirement_that_is_part_of_python_is_to_be_removed() -> None:
    text = "Because {} was not found in the package registry and you require {}, we can conclude …"
    hints = [resolution_error(text.format(name, name), (), DEBIAN_13).hint for name in ("sqlite3", "flaskk")]
    assert hints == ["Remove it: sqlite3 is part of Python.", "Check the spelling of its name."]
