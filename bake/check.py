"""pytest-testinfra's words for a host, and what came back."""

from __future__ import annotations

import re
import signal
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bake import places, run
from bake.errors import BootError, CheckError, ProgramError


@dataclass(frozen=True)
class Outcome:
    """How many checks passed and were skipped, each failure as (name, its text), and how the app answered.

    `app` is a line; `pages` a table of the pages that differ from those of the author's server, or are worth a look.
    """

    passed: int
    skipped: int
    failures: tuple[tuple[str, str], ...]
    seconds: float
    app: str = ""
    pages: str = ""


def ssh_config(path: Path, port: int, user: str, private_key: Path, known_hosts: Path, host: str = "127.0.0.1") -> Path:
    """An ssh_config for a machine of ours, under the name `machine`."""
    settings = {
        "HostName": host, "Port": port, "User": user, "IdentityFile": private_key, "IdentitiesOnly": "yes",
        "UserKnownHostsFile": known_hosts, "StrictHostKeyChecking": "accept-new", "BatchMode": "yes",
        "LogLevel": "ERROR",
    }  # fmt: skip
    path.write_text("Host machine\n" + "".join(f"  {name} {value}\n" for name, value in settings.items()))
    return path


def pytest_argv(suites: list[str], host: str | None, config: Path | None, report: Path) -> list[str]:
    """pytest, on suites of ours (`machine`, `proof`), against a host as testinfra names it."""
    folders = [str(places.tree() / "tests" / suite) for suite in suites]
    argv = [
        sys.executable, "-m", "pytest", "-v", "--tb=short", "--no-header", "-p", "no:cacheprovider", "-c", "/dev/null",
        "--rootdir", str(places.tree() / "tests"), f"--junitxml={report}", *folders,
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
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> Outcome:
    """Run suites against a host; `facts` reach the checks as environment variables.

    Raises BootError when pytest could not run the checks at all.
    """
    report = work / f"report-{'-'.join(suites).replace('/', '_')}.xml"
    tail: list[str] = []

    def line(text: str) -> None:
        tail.append(text)
        found = re.match(r"\S*?(test_\w+)\.py::(\w+).*\[ *(\d+)%\]", text)
        if found:
            progress(int(found[3]) / 100, found[2].removeprefix("test_").replace("_", " "))

    environment = {"PYTHONDONTWRITEBYTECODE": "1", **(facts or {})}
    done = run.run(
        pytest_argv(suites, host, config, report),
        cwd=work,
        on_line=line,
        env=environment,
        check=False,
        namespaces=True,
        # pytest has nothing to clean up, and where SIGINT is ignored it would not hear us.
        cancel=signal.SIGKILL,
    )
    if done.status not in (0, 1) or not report.is_file():
        raise BootError(
            "The checks could not be run", "Can you log in there by ssh, and use sudo?", "\n".join(tail[-30:])
        )
    return read(report)


def read(report: Path) -> Outcome:
    """A JUnit report of pytest's."""
    try:
        suite = next(ElementTree.parse(report).iter("testsuite"))
    except (ElementTree.ParseError, StopIteration) as error:
        raise ProgramError(f"pytest left a report that cannot be read: {error}") from error
    failures, skipped, passed = [], 0, 0
    said: dict[str, str] = {}
    for case in suite.iter("testcase"):
        fault = next((child for child in case if child.tag in ("failure", "error")), None)
        if fault is not None:
            name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
            failures.append((name, (fault.text or fault.get("message") or "").strip()))
        elif any(child.tag == "skipped" for child in case):
            skipped += 1
        else:
            passed += 1
        said |= {each.get("name", ""): each.get("value", "") for each in case.iter("property")}
    app, pages = said.get("app", ""), said.get("pages", "")
    return Outcome(passed, skipped, tuple(failures), float(suite.get("time", 0)), app, pages)


def require(outcome: Outcome) -> None:
    """Raise CheckError where a check failed, with what each said."""
    if outcome.failures:
        shown = "\n".join(f"--- {name}\n{text}" for name, text in outcome.failures)
        raise CheckError(f"{len(outcome.failures)} checks failed, {outcome.passed} passed", details=shown)
