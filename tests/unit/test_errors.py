"""The kinds of failure: what they say, and their exit codes."""

from __future__ import annotations

import pytest

from bake import errors
from bake.errors import BakeError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BakeError)]
OURS = [kind for kind in KINDS if kind is not BakeError]


def test_each_kind_has_a_code_of_its_own() -> None:
    codes = {kind.code: kind.__name__ for kind in KINDS}
    assert len(codes) == len(KINDS), codes


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_a_code_is_none_that_means_something_else(kind: type[BakeError]) -> None:
    # 1 is a crash of ours, 2 a wrong command line; from 126 on a shell's own, but for Ctrl-C's.
    assert 2 < kind.code < 126 or kind is errors.Cancelled
    assert "code" in vars(kind), "inherits another kind's code"
    assert (kind.__doc__ or "").endswith(".")


def test_ctrl_c_is_what_shells_say() -> None:
    assert errors.Cancelled.code == 130


def test_an_error_says_what_went_wrong_and_the_way_out() -> None:
    error = errors.ToolError("no such tool", "install it", "its last line")
    assert (str(error), error.message, error.hint, error.details) == (
        "no such tool", "no such tool", "install it", "its last line",
    )  # fmt: skip
    assert BakeError("only this").hint == BakeError("only this").details == ""
