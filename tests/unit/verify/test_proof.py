"""What a failed proof tells; its machines boot in tests/system."""

from __future__ import annotations

import pytest
from conftest import REPOSITORY

from bake.errors import CheckError
from bake.host.programs import Result
from bake.verify import proof
from bake.verify.checks import Outcome
from bake.vm import qemu

READ_ONLY = (REPOSITORY / "tests" / "unit" / "journals" / "read-only.txt").read_text()


class Machine(qemu.Machine):
    """A machine without a process, whose journal a test gives."""

    def __init__(self, journal: str) -> None:
        self.journal = journal

    def ssh(self, *command: str, stdin: str = "", check: bool = True, timeout: float = 120) -> Result:
        assert command[0].startswith("sudo journalctl ") and not check
        return Result(0, self.journal, "")

    def tail(self, lines: int = 30) -> str:
        return "login:"


def judged(journal: str) -> CheckError:
    with pytest.raises(CheckError) as caught:
        proof._require_passed(
            Machine(journal), [Outcome(9, 0, (("machine/test_app::test_it_answers", "assert 500 == 200"),), 1.0)]
        )
    return caught.value


def test_a_failed_check_ends_with_the_app_s_exception_and_its_cure() -> None:
    prefix = "Nov 28 07:21:17 shop uwsgi-core[642]: "
    journal = "".join(f"{prefix}{line}\n" for line in ["line"] * 99 + READ_ONLY.splitlines())
    error = judged(journal)
    assert error.message == "1 of the checks failed: test_it_answers"
    assert error.hint == (
        "bake made no image. The output of the checks is above.\nOSError: [Errno 30] Read-only file system: 'logs'\n"
        "  at shop/erofs.py:4\nAdd to bake.yaml:  writable: [logs]"
    )
    assert "assert 500 == 200" in error.details and "login:" in error.details
    assert len(error.details.splitlines()) < 50 and journal in error.log


def test_a_failed_check_of_a_well_app_names_no_cure() -> None:
    assert judged("/ answers 200\n").hint == "bake made no image. The output of the checks is above."


def test_nothing_is_raised_where_all_checks_passed() -> None:
    proof._require_passed(Machine(""), [Outcome(9, 1, (), 1.0)])
