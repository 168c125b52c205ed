"""Run Packer and parse its machine-readable output.

With `-machine-readable`, Packer prints lines `time,target,type,data…`, which are parsed
into events as they arrive. Its exit status is not enough: a build has succeeded when
Packer reported an artifact and the artifact exists.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bake.config.contract_files import Result
from bake.diagnosis.diagnosis import last_lines, setup_error
from bake.errors import BakeError, PackerError, SpaceError, ToolError
from bake.host import files, paths, programs

#: The oldest version that works, and the one that the tests use. Debian 12 has it; Debian 13 and Ubuntu have none.
MIN_VERSION = (1, 6, 0)
#: Seconds for Packer to clean up after an interrupt.
CANCEL_GRACE = 30.0

#: The maximum number of lines of Packer's output to keep. await.sh prints up to 2,000 lines of the machine's journal.
MAX_LINES = 20_000
#: The text before the machine's result (`contract.RESULT` in base64) in the output of await.sh.
RESULT_PREFIX = "bake: result "
#: The end of the line that await.sh prints before the machine's journal, and the beginning of Packer's own lines.
JOURNAL, PACKER_PREFIX = "; their last lines:", "==> "

#: A text in Packer's output, the share of the bake that is complete then, and the words to show.
MILESTONES = (
    ("Copying hard drive", 0.02, "copying the base disk"),
    ("Starting VM", 0.04, "starting the machine"),
    ("Launching a source AWS instance", 0.04, "starting an instance"),
    ("Waiting for SSH", 0.06, "booting"),
    ("Connected to SSH", 0.55, "booted"),
    ("bake: waiting for cloud-init", 0.6, "setting up the app"),
    ("bake: set up", 0.85, "set up"),
    ("halt", 0.9, "sealing"),
    ("Waiting for the instance to stop", 0.9, "sealing"),
    ("Creating AMI", 0.92, "AWS creates the AMI"),
    ("finished", 1.0, "sealed"),
)


@dataclass(frozen=True)
class Event:
    """A machine-readable line: its kind, its build, and its unescaped data."""

    kind: str
    target: str
    data: tuple[str, ...]

    @property
    def text(self) -> str:
        """Return the text of a `ui` event, or an empty string for other events."""
        return self.data[-1] if self.kind == "ui" else ""


def parse(line: str) -> Event | None:
    """Return the event in a line of Packer's output, or None if the line is not an event."""
    parts = line.rstrip("\n").split(",")
    if len(parts) < 3 or not parts[0].isdigit():
        return None
    data = (part.replace("%!(PACKER_COMMA)", ",").replace("\\n", "\n").replace("\\r", "") for part in parts[3:])
    return Event(parts[2], parts[1], tuple(data))


def version() -> tuple[int, ...]:
    """Return the version of the installed Packer. Raises ToolError if it is missing or too old."""
    if programs.which("packer") is None:
        raise ToolError("Packer is not installed", "`bake doctor` explains how to install it on this system.")
    stdout = programs.run(["packer", "version"], env={"CHECKPOINT_DISABLE": "1"}).stdout
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", stdout)
    if not match:
        raise ToolError(
            f"`packer version` printed no version of HashiCorp's Packer: {stdout.strip()[:80]!r}",
            "Another program may have the same name. `bake doctor` explains how to install Packer.",
        )
    numbers = tuple(int(part) for part in match.groups())
    if numbers < MIN_VERSION:
        raise ToolError(
            f"Packer {'.'.join(match.groups())} is too old: HCL templates need {'.'.join(map(str, MIN_VERSION))}",
            "Install the packer package of Debian 12 (1.6.6), or a newer Packer.",
        )
    return numbers


def build_argv(template: Path, variables: Path) -> list[str]:
    """Return the command of a build. `-machine-readable` also turns off colours and prompts."""
    return ["packer", "build", "-machine-readable", f"-var-file={variables}", str(template)]


@dataclass
class _BuildResult:
    """The result of a build: exit status, last lines, whether Packer reported an artifact, and the artifact's id.

    `failure` is the machine's result if it reported an error.
    """

    status: int = -1
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    artifact: bool = False
    id: str = ""
    failure: Result | None = None


def build(
    template: str, variables: Mapping[str, str | int], artifact: Path, work: Path, on_event: Callable[[Event], None]
) -> Path:
    """Build one of bake's templates and return the artifact's path. `work` gets the console and all temporary files.

    Ctrl-C and SIGTERM reach Packer as an interrupt, after which it cleans up.
    Raises SetupError, AppStartError or UnhealthyError for a failure on the machine, PackerError for any other.
    """
    console = work / "console"
    console.touch()
    result = _run(template, {**variables, "console": str(console)}, {}, work, on_event)
    if result.status or not result.artifact or not artifact.is_file():
        raise _fault(result, artifact.name, files.end(console))
    return artifact


def build_in_cloud(
    template: str,
    variables: Mapping[str, object],
    environment: Mapping[str, str],
    work: Path,
    on_event: Callable[[Event], None],
) -> str:
    """Build a template whose artifact is in a cloud, and return the id that Packer reports. Raises as `build` does."""
    result = _run(template, variables, environment, work, on_event)
    if result.status or not result.id:
        raise _fault(result, "AMI", "")
    return result.id


def _run(
    template: str,
    variables: Mapping[str, object],
    environment: Mapping[str, str],
    work: Path,
    on_event: Callable[[Event], None],
) -> _BuildResult:
    version()
    file = work / "variables.pkrvars.json"
    file.write_text(json.dumps(variables))
    scratch = work / "packer"
    scratch.mkdir(exist_ok=True)
    # Packer talks to its plugins over sockets below TMPDIR, whose paths have at most 107 bytes (unix(7)). A relative
    # path is short.
    settings = {
        "CHECKPOINT_DISABLE": "1", "PACKER_CACHE_DIR": str(scratch), "PACKER_CONFIG_DIR": str(scratch),
        "TMPDIR": scratch.name, "HOME": str(scratch),
    }  # fmt: skip
    process = programs.start(
        build_argv(paths.tree() / "packer" / template, file),
        cwd=work, env={**environment, **settings}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, namespaces=True,
    )  # fmt: skip
    if console := variables.get("console"):
        programs.bound_file(process, Path(str(console)))
    result = _BuildResult()
    try:
        for event in _events(process, result):
            if event.kind == "artifact":
                result.artifact = True
                if event.data[1:2] == ("id",):
                    result.id = event.data[2]
            on_event(event)
        result.status = process.wait()
    finally:
        programs.stop(process, signal.SIGTERM, CANCEL_GRACE)
        shutil.rmtree(scratch, ignore_errors=True)
    return result


def _events(process: subprocess.Popen[bytes], result: _BuildResult) -> Iterator[Event]:
    """Yield the events of a build, and add their lines and the machine's failure to its result."""
    for line in programs.lines(process):
        event = parse(line)
        _, marker, encoded = (event.text if event else "").partition(RESULT_PREFIX)
        if marker:
            # A machine may print anything.
            with contextlib.suppress(ValueError):
                result.failure = Result.failure(base64.b64decode(encoded))
        else:
            text = event.text if event else line
            result.lines.extend(part[: programs.KEPT_LINE] for part in text.splitlines()[-MAX_LINES:])
        if event:
            yield event


def _fault(result: _BuildResult, artifact: str, console: str) -> BakeError:
    """Return the error of a failed build, from Packer's last lines and the machine's. Its log has all lines."""
    error = _error(result, artifact, console)
    error.log = "\n".join([*result.lines, *(["--- the console", console] if console else [])])
    return error


def _error(result: _BuildResult, artifact: str, console: str) -> BakeError:
    lines = [line.strip() for line in result.lines]
    details = last_lines("\n".join(result.lines))
    if result.failure:
        journal_index = next((number for number, line in enumerate(lines) if line.endswith(JOURNAL)), -1)
        log_lines = list(result.lines)[journal_index + 1 :]
        return setup_error(result.failure, "\n".join(line for line in log_lines if not line.startswith(PACKER_PREFIX)))
    if "Kernel panic" in console:
        return PackerError(
            "The kernel panicked on the machine during the bake",
            "This rarely happens to emulated machines. Run the same command again. The console's last lines are above.",
            "\n".join(console.splitlines()[-40:]),
        )
    if any("no space left" in line.lower() for line in lines):
        return SpaceError(
            "The disk ran full while Packer was running",
            "Free some space, or set BAKE_CACHE to a folder on another disk.",
            details,
        )
    if result.status == 0:
        return PackerError(f"Packer reported success but produced no {artifact}", "Its last lines are above.", details)
    return PackerError(
        f"Packer failed with exit status {result.status}",
        "Its last lines are above; `bake doctor` checks this machine.",
        details,
    )


def milestone(event: Event) -> tuple[float, str] | None:
    """Return the completed share of the bake at this event and the words to show, or None between milestones."""
    for marker, share, activity in MILESTONES:
        if marker in event.text:
            return share, activity
    return None
