"""One requirement: parsed, or refused with the next step."""

from __future__ import annotations

import pytest

from bake.app.requirement_line import parse
from bake.config.debian import DEBIAN_13
from bake.errors import RequirementError

COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"git+https://code.example/shop/six.git@{COMMIT}", "six"),
        (f"-e git+https://code.example/shop/six@{COMMIT}#egg=Six", "Six"),
        (f"six[x] @ git+https://code.example/s.git@{COMMIT}", "six"),
    ],
)
def test_a_repository_is_refused_with_a_release_to_write_instead(text: str, name: str) -> None:
    with pytest.raises(RequirementError) as caught:
        parse(text, "requirements.txt:1", DEBIAN_13)
    assert caught.value.message == f"requirements.txt:1: bake cannot use {text!r}"
    assert f"`{name}==…`" in caught.value.hint and "pip wheel" in caught.value.hint


def test_a_folder_is_refused_with_the_way_into_the_app() -> None:
    with pytest.raises(RequirementError) as caught:
        parse("-e ./packages/lib", "requirements.txt:1", DEBIAN_13)
    assert "Copy the package's folder into the app's folder" in caught.value.hint


def test_a_requirement_is_unneeded_only_where_its_marker_applies() -> None:
    assert parse("pywin32==311", "x:1", DEBIAN_13).unneeded == "it is only for Windows"
    assert parse('pywin32==311; sys_platform == "win32"', "x:1", DEBIAN_13).unneeded == ""
    assert parse('enum34; python_version < "3.4"', "x:1", DEBIAN_13).unneeded == ""
