"""Run the testinfra checks against a host and parse their report."""

from __future__ import annotations

import re
import signal
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bake.errors import BootError, CheckError, ProgramError
from bake.host import paths, programs


@dataclass(frozen=True)
class Outcome:
    """The numbers of checks that passed and were skipped, each failure as (name, text), and the app's answers.

    `app` summarises the answers in a line. `pages` is a table of the pages that differ from those of the author's
    server, or that bake recommends to inspect.
    """

    passed: int
    skipped: int
    failures: tuple[tuple[str, str], ...]
    seconds: float
    app: str = ""
    pages: str = ""


def ssh_config(path: Path, port: int, user: str, private_key: Path, known_hosts: Path, host: str = "127.0.0.1") -> Path:
    """Write an ssh_config in which `machine` is the name of a machine that bake booted, and return its path."""
    settings = {
        "HostName": host, "Port": port, "User": user, "IdentityFile": private_key, "IdentitiesOnly": "yes",
        "UserKnownHostsFile": known_hosts, "StrictHostKeyChecking": "accept-new", "BatchMode": "yes",
        "LogLevel": "ERROR",
    }  # fmt: skip
    path.write_text("Host machine\n" + "".join(f"  {name} {value}\n" for name, value in settings.items()))
    return path


def pytest_argv(suites: list[str], host: str | None, config: Path | None, report: Path) -> list[str]:
    """Return the pytest command that runs suites (`machine`, `proof`) against a host, named as testinfra does."""
    folders = [str(paths.tree() / "tests" / suite) for suite in suites]
    argv = [
        sys.executable, "-m", "pytest", "-v", "--tb=short", "--no-header", "-p", "no:cacheprovider", "-c", "/dev/null",
        "--rootdir", str(paths.tree() / "tests"), f"--junitxml={report}", *folders,
    ]  # fmt: skip
    if host:
        argv.append(f"--hosts={host}")
    if config:
        argv.append(f"--ssh-config={config}")
    return argv


def run_suites(
    suites: list[str],
    *,
    host: str | None,
    work: Path,
    config: Path | None = None,
    facts: Mapping[str, str] | None = None,
    progress: Callable[[float, str], None] = lambda share, activity: None,
) -> Outcome:
    """Run suites against a host, with `facts` as environment variables of the checks.

    Raises BootError if pytest could not run the checks.
    """
    report = work / f"report-{'-'.join(suites).replace('/', '_')}.xml"
    tail: list[str] = []

    def on_line(text: str) -> None:
        tail.append(text)
        match = re.match(r"\S*?(test_\w+)\.py::(\w+).*\[ *(\d+)%\]", text)
        if match:
            progress(int(match[3]) / 100, match[2].removeprefix("test_").replace("_", " "))

    env = {"PYTHONDONTWRITEBYTECODE": "1", **(facts or {})}
    result = programs.run(
        pytest_argv(suites, host, config, report),
        cwd=work,
        on_line=on_line,
        env=env,
        check=False,
        namespaces=True,
        # pytest has nothing to clean up, and it ignores SIGINT where its parent does.
        cancel=signal.SIGKILL,
    )
    if result.status not in (0, 1) or not report.is_file():
        raise BootError(
            "pytest could not run the checks",
            "Its last lines are above. Check that you can log in to the machine by ssh and use sudo there.",
            "\n".join(tail[-30:]),
        )
    return read(report)


def read(report: Path) -> Outcome:
    """Parse a JUnit report that pytest wrote. Raises ProgramError if it is not one."""
    try:
        suite = next(ElementTree.parse(report).iter("testsuite"))
    except (ElementTree.ParseError, StopIteration) as error:
        raise ProgramError(f"The report that pytest wrote cannot be read: {error}") from error
    failures, skipped, passed = [], 0, 0
    properties: dict[str, str] = {}
    for case in suite.iter("testcase"):
        fault = next((child for child in case if child.tag in ("failure", "error")), None)
        if fault is not None:
            name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
            failures.append((name, (fault.text or fault.get("message") or "").strip()))
        elif any(child.tag == "skipped" for child in case):
            skipped += 1
        else:
            passed += 1
        properties |= {element.get("name", ""): element.get("value", "") for element in case.iter("property")}
    app, pages = properties.get("app", ""), properties.get("pages", "")
    return Outcome(passed, skipped, tuple(failures), float(suite.get("time", 0)), app, pages)


def require(outcome: Outcome) -> None:
    """Raise CheckError with the output of each failed check, if any failed."""
    if outcome.failures:
        output = "\n".join(f"--- {name}\n{text}" for name, text in outcome.failures)
        raise CheckError(f"{len(outcome.failures)} checks failed, {outcome.passed} passed", details=output)
