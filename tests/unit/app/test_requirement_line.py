"""One requirement: which ones the machine does not need."""

from __future__ import annotations

import pytest

from bake.app.requirement_line import parse
from bake.config.debian import DEBIAN_13


def test_a_requirement_is_unneeded_only_where_its_marker_applies() -> None:
    assert parse("pywin32==311", "x:1", DEBIAN_13).unneeded == "it is only for Windows"
    assert parse('pywin32==311; sys_platform == "win32"', "x:1", DEBIAN_13).unneeded == ""
    assert parse('enum34; python_version < "3.4"', "x:1", DEBIAN_13).unneeded == ""


@pytest.mark.parametrize("options", ["--no-binary psycopg2", "--global-option=build", f"--hash=sha256:{'ab' * 32}"])
def test_options_behind_a_requirement_are_not_part_of_it(options: str) -> None:
    line = parse(f"psycopg2==2.9.10 {options}", "x:1", DEBIAN_13)
    assert line.text == "psycopg2==2.9.10"
    assert line.hashes == ({"ab" * 32} if "hash" in options else set())
