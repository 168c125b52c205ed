"""Run the testinfra checks against a host and parse their report."""

from __future__ import annotations

import re
import signal
import sys
import xml.etree.ElementTree as ElementTree
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bake.errors import BootError, CheckError, ProgramError
from bake.host import paths, programs
from bake.vm.qemu import Access
from bake.vm.ssh import path_value

#: The largest report of pytest in bytes. It quotes the answers of a machine.
LARGEST_REPORT = 64 * 2**20
#: The number of pytest's last lines in an error.
SHOWN_LINES = 30
#: A callback for the completed share, from 0 to 1, and the current activity.
Progress = Callable[[float, str], None]


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


@dataclass(frozen=True)
class Host:
    """A host as testinfra names it (None: this computer), and the ssh_config that explains the name."""

    name: str | None = None
    config: Path | None = None

    @classmethod
    def of(cls, access: Access, work: Path) -> Host:
        """Return the host for a machine that bake created. Its ssh_config is written to `work`."""
        settings = {
            "HostName": access.address, "Port": access.port, "User": access.user,
            "IdentityFile": path_value(access.private_key), "IdentitiesOnly": "yes",
            "UserKnownHostsFile": path_value(access.known_hosts), "StrictHostKeyChecking": "accept-new",
            "BatchMode": "yes", "LogLevel": "ERROR",
        }  # fmt: skip
        config = work / "ssh_config"
        config.write_text("Host machine\n" + "".join(f"  {name} {value}\n" for name, value in settings.items()))
        return cls("ssh://machine?sudo=true", config)


@dataclass(frozen=True)
class Suites:
    """Folders or files of checks, relative to tests/, and the facts that these get as environment variables."""

    names: Sequence[str]
    facts: Mapping[str, str] = field(default_factory=dict)


def pytest_argv(names: Sequence[str], host: Host, report: Path) -> list[str]:
    """Return the pytest command that runs suites (`machine`, `proof`) against a host."""
    folders = [str(paths.tree() / "tests" / name) for name in names]
    argv = [
        sys.executable, "-m", "pytest", "-v", "--tb=short", "--no-header", "-p", "no:cacheprovider", "-c", "/dev/null",
        "--rootdir", str(paths.tree() / "tests"), f"--junitxml={report}", *folders,
    ]  # fmt: skip
    if host.name:
        argv.append(f"--hosts={host.name}")
    if host.config:
        argv.append(f"--ssh-config={host.config}")
    return argv


def run_suites(suites: Suites, host: Host, work: Path, progress: Progress = lambda share, activity: None) -> Outcome:
    """Run suites against a host; `work` gets the report. Raises BootError if pytest could not run the checks."""
    report = work / f"report-{'-'.join(suites.names).replace('/', '_')}.xml"
    tail: deque[str] = deque(maxlen=SHOWN_LINES)

    def on_line(text: str) -> None:
        tail.append(text[: programs.KEPT_LINE])
        match = re.match(r"\S*?(test_\w+)\.py::(\w+).*\[ *(\d+)%\]", text)
        if match:
            progress(int(match[3]) / 100, match[2].removeprefix("test_").replace("_", " "))

    result = programs.stream(
        pytest_argv(suites.names, host, report),
        on_line,
        cwd=work,
        env={"PYTHONDONTWRITEBYTECODE": "1", **suites.facts},
        check=False,
        namespaces=True,
        # pytest has nothing to clean up, and it ignores SIGINT where its parent does.
        cancel=signal.SIGKILL,
    )
    outcome = read(report) if result.status in (0, 1) and report.is_file() else None
    # Python itself also exits with 1.
    if outcome is None or bool(result.status) != bool(outcome.failures):
        raise BootError(
            "pytest could not run the checks",
            "Its last lines are above. Check that you can log in to the machine by ssh and use sudo there.",
            "\n".join(tail),
        )
    return outcome


def read(report: Path) -> Outcome:
    """Parse a JUnit report that pytest wrote. Raises ProgramError if it is not one, or too large."""
    if report.stat().st_size > LARGEST_REPORT:
        raise ProgramError(f"The report that pytest wrote has more than {LARGEST_REPORT >> 20} MB")
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
