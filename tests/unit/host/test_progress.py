"""What one sees: plain lines in a log, a live line on a terminal."""

from __future__ import annotations

import sys
import time
from io import StringIO

import pytest

from bake.host.programs import run
from bake.host.progress import Phase, Reporter
from bake.host.terminal import Terminal


def reporter(*, terminal: bool) -> tuple[Reporter, StringIO]:
    stream = StringIO()
    return Reporter(Terminal(file=stream, force_terminal=terminal, width=80)), stream


def test_a_log_gets_a_line_at_the_start_and_one_with_the_seconds() -> None:
    report, stream = reporter(terminal=False)
    with report.phase("base") as phase:
        phase.progress(0.5, "half way")
        assert stream.getvalue() == "base …\n"
        time.sleep(0.15)
    assert stream.getvalue().splitlines()[1].split()[:1] == ["base"]
    assert 0.1 <= float(stream.getvalue().split()[-2]) < 2
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_a_live_line() -> None:
    report, stream = reporter(terminal=True)
    with report.phase("base") as phase:
        phase.progress(0.5, "half way")
        time.sleep(0.2)
    assert "half way" in stream.getvalue()
    last = stream.getvalue().splitlines()[-1]
    assert "base " in last and last.endswith(" s")
    assert "half way" not in last


def test_seconds_are_kept_by_phase_and_added_up() -> None:
    report, _ = reporter(terminal=False)
    for _ in range(2):
        with report.phase("bake"):
            time.sleep(0.05)
    with report.phase("seal"):
        pass
    assert list(report.seconds) == ["bake", "seal"]
    assert 0.1 <= report.seconds["bake"] < 1 > report.seconds["seal"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_phase_that_fails_is_not_said_to_be_done(terminal: bool) -> None:
    report, stream = reporter(terminal=terminal)
    with pytest.raises(ValueError, match="oh no"), report.phase("base"):
        raise ValueError("oh no")
    assert report.seconds == {}
    assert " s\n" not in stream.getvalue()


def test_notes_are_shown_as_they_are() -> None:
    report, stream = reporter(terminal=False)
    long = "left out: " + " ".join(f"[bold]folder{number}[/bold]" for number in range(20))
    report.note(long)
    assert stream.getvalue() == f"{long}\n"


def test_a_phase_without_a_display_can_be_told_all_the_same() -> None:
    Phase("any", None).progress(0.5, "what")


def test_standard_output_is_left_to_results() -> None:
    code = "from bake.host.progress import Reporter\nreport = Reporter()\nwith report.phase('x'): report.note('y')"
    said = run([sys.executable, "-c", code])
    assert said.stdout == ""
    assert "y\n" in said.stderr
