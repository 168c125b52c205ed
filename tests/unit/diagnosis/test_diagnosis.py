"""The exception that ended an app, the merged cures, and the error that bake shows."""

from __future__ import annotations

import pytest
import yaml
from cure_texts import JOURNALS, cure, trace

from bake.config.contract_files import Result
from bake.diagnosis.diagnosis import diagnose, has_other_failures, last_lines, setup_error
from bake.errors import AppStartError, BakeError, SetupError, UnhealthyError


def test_the_first_worker_that_could_not_load_the_app_is_the_cause() -> None:
    # As of whoogle-search: uWSGI ends the other workers, one of which has a thread that then fails.
    started = "*** Starting uWSGI 2.0.28-debian (64bit) on [Sat Nov 28 12:25:59 2026] ***"
    ended = "unable to load app 0 (mountpoint='')\n*** no app loaded. GAME OVER ***\n"
    before = f"{started}\n{trace('ValueError: of the start before')}{ended}"
    first = trace("FileExistsError: [Errno 17] File exists: 'app/static/config'")
    thread = f"Exception in thread Thread-1 (load):\n{trace('ssl.SSLError: unknown error (_ssl.c:3125)')}"
    found = diagnose(f"{before}{started}\n{first}{ended}{trace('KeyboardInterrupt')}{ended}{thread}goodbye to uWSGI.\n")
    assert found.exception is not None and found.exception.text.startswith("FileExistsError: [Errno 17] File exists")


def test_several_cures_are_one_part_of_bake_yaml_without_doubles() -> None:
    hint = (
        "app: {} cannot be written: the app's folder is read-only. To keep it, write into bake.yaml:  writable: [x]\n"
    )
    link = "During handling of the above exception, another exception occurred:\n"
    log = hint.format("instance/a.db") + hint.format("instance/deep/b.db") + "sh: 1: git: not found\n"
    log += trace("OSError: [Errno 30] Read-only file system: 'logs'") + link + (JOURNALS / "psycopg2.txt").read_text()
    found = diagnose(log * 3)
    assert found.causes == (
        "read-only path", "read-only path, by its hint", "missing program, by its shell", "unreachable server",
    )  # fmt: skip
    assert found.text.splitlines()[-5:] == [
        "Add to bake.yaml:",
        "  writable: [logs, instance]",
        "  packages: [git]",
        "  secrets: [DATABASE_URL]",
        "  check: {network: on, env: {DATABASE_URL: …}}",
    ]


def test_keys_to_add_are_yaml() -> None:
    texts = [cure(path.read_text()) for path in sorted(JOURNALS.iterdir())]
    for text in texts:
        added = text.partition("Add to bake.yaml:")[2]
        assert not added or isinstance(yaml.safe_load(added.strip("\n ").replace("\n  ", "\n")), dict), text


def test_escapes_of_an_app_reach_no_terminal() -> None:
    found = diagnose(trace("ValueError: \x1b[2J\x1b]0;owned\x07\x9b31mred\u202e\rgone"))
    assert found.text == "ValueError: red\n  at shop/__init__.py:7"
    assert "\x1b" not in last_lines("\x1b[31mred\n") == "red"


def test_the_screen_shows_the_last_lines_without_a_server_s_banner() -> None:
    log = (
        "".join(f"line {number}\n" for number in range(99))
        + "compiled with version: 14.2.0\n*** Starting uWSGI ***\n\n"
    )
    shown = last_lines(log).splitlines()
    assert (len(shown), shown[0], shown[-1]) == (40, "line 59", "line 98")


@pytest.mark.parametrize(
    ("result", "kind", "message"),
    [
        (Result(kind="NotStarted", message="x"), AppStartError, "The app does not start on the machine"),
        (Result(kind="Unhealthy", message="/ answers 500"), UnhealthyError, "The app starts, but / answers 500"),
        (
            Result(kind="StepError", message="a step failed"),
            SetupError,
            "The machine could not be set up: a step failed",
        ),
        (Result(kind="Waiting", message="no KEY"), SetupError, "The machine could not be set up: no KEY"),
    ],
)
def test_an_error_of_a_machine_ends_with_the_exception_and_its_cure(
    result: Result, kind: type[BakeError], message: str
) -> None:
    error = setup_error(result, (JOURNALS / "read-only.txt").read_text())
    assert (type(error), error.message) == (kind, message)
    assert error.hint.endswith(
        "OSError: [Errno 30] Read-only file system: 'logs'\n  at shop/erofs.py:4\nAdd to bake.yaml:  writable: [logs]"
    )
    assert error.details.splitlines()[-1] == "OSError: [Errno 30] Read-only file system: 'logs'"
    assert setup_error(result, "nothing of note").hint


UNREACHABLE = trace("redis.exceptions.ConnectionError: Error 111 connecting to 127.0.0.1:6379. Connection refused.")


def test_exceptions_that_no_missing_server_explains() -> None:
    bug = trace("ZeroDivisionError: division by zero")
    assert not has_other_failures(UNREACHABLE) and not has_other_failures("")
    assert has_other_failures(bug + UNREACHABLE) and has_other_failures(UNREACHABLE + bug)
    link = "\nDuring handling of the above exception, another exception occurred:\n\n"
    assert not has_other_failures(UNREACHABLE + link + bug)
    assert not has_other_failures(UNREACHABLE + trace("SystemExit: 0"))
