"""Packer's words, Packer's events, Packer's artifact.

Packer speaks `-machine-readable` lines, `time,target,type,data…`, from which events are
made as they come. Its exit status is not believed: a build has succeeded when an
artifact was reported and lies where it should.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bake import places, run
from bake.diagnosis import of_setup, relevant
from bake.errors import BakeError, PackerError, SpaceError, ToolError

#: What is proved. Debian 12 carries it, Debian 13 and Ubuntu carry none.
OLDEST = (1, 6, 0)
#: From here on builders are plugins of their own.
PLUGINS_SINCE = (1, 7, 0)
#: Packer cleans up after itself when it is asked to stop; this long. Seconds.
CANCEL_GRACE = 30.0

#: Lines that are kept of what Packer prints: await.sh prints up to 2,000 of the machine's.
KEPT = 20_000
#: await.sh prints this before the machine's journal. Packer's own lines begin with the other.
JOURNAL, PACKERS = "; their last lines:", "==> "

#: What Packer says, and how much of a bake is then done.
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
    ("Creating AMI", 0.92, "AWS makes the AMI"),
    ("finished", 1.0, "sealed"),
)


@dataclass(frozen=True)
class Event:
    """One machine-readable line: what kind it is, of which build, and its data, unescaped."""

    kind: str
    target: str
    data: tuple[str, ...]

    @property
    def text(self) -> str:
        """What a `ui` event says; empty for others."""
        return self.data[-1] if self.kind == "ui" else ""


def parse(line: str) -> Event | None:
    """A line of Packer's as an event; None for what is not one."""
    parts = line.rstrip("\n").split(",")
    if len(parts) < 3 or not parts[0].isdigit():
        return None
    data = (part.replace("%!(PACKER_COMMA)", ",").replace("\\n", "\n").replace("\\r", "") for part in parts[3:])
    return Event(parts[2], parts[1], tuple(data))


def version() -> tuple[int, ...]:
    """The installed Packer's version. Raises ToolError where there is none, or it is too old."""
    if run.which("packer") is None:
        raise ToolError("Packer is not installed", "`bake doctor` says how to get it on this system.")
    said = run.run(["packer", "version"], env={"CHECKPOINT_DISABLE": "1"}).stdout
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    if not found:
        raise ToolError(
            f"`packer version` says {said.strip()[:80]!r}",
            "Is this HashiCorp's Packer? `bake doctor` says how to get it.",
        )
    numbers = tuple(int(part) for part in found.groups())
    if numbers < OLDEST:
        raise ToolError(
            f"Packer {'.'.join(found.groups())} is too old: HCL templates need {'.'.join(map(str, OLDEST))}",
            "Install the packer package of Debian 12 (1.6.6), or a newer Packer.",
        )
    return numbers


def build_argv(template: Path, variables: Path) -> list[str]:
    """The words of a build. Colours and prompts are off by `-machine-readable`."""
    return ["packer", "build", "-machine-readable", f"-var-file={variables}", str(template)]


@dataclass
class _Said:
    """What became of a build: the exit status, the last lines, whether an artifact was reported, and its id."""

    status: int = -1
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    artifact: bool = False
    id: str = ""


def build(
    template: str, variables: dict[str, str | int], artifact: Path, work: Path, on_event: Callable[[Event], None]
) -> Path:
    """Run a template of ours; the artifact's path. `work` takes the console and all of Packer's temporary files.

    Ctrl-C and SIGTERM reach Packer as an interrupt, which it answers by cleaning up.
    Raises SetupError, AppStartError or UnhealthyError for what the machine said, PackerError for the rest.
    """
    console = work / "console"
    console.touch()
    said = _run(template, {**variables, "console": str(console)}, {}, work, on_event)
    if said.status or not said.artifact or not artifact.is_file():
        raise _fault(said, artifact.name, console.read_text(errors="replace"))
    return artifact


def build_there(
    template: str,
    variables: Mapping[str, object],
    environment: Mapping[str, str],
    work: Path,
    on_event: Callable[[Event], None],
) -> str:
    """The same, of a template whose artifact is a cloud's: its id, as Packer reports it."""
    said = _run(template, variables, environment, work, on_event)
    if said.status or not said.id:
        raise _fault(said, "AMI", "")
    return said.id


def _run(
    template: str,
    variables: Mapping[str, object],
    environment: Mapping[str, str],
    work: Path,
    on_event: Callable[[Event], None],
) -> _Said:
    version()
    file = work / "variables.pkrvars.json"
    file.write_text(json.dumps(variables))
    temporary = work / "packer"
    temporary.mkdir(exist_ok=True)
    # Packer's plugins meet on sockets below TMPDIR, whose paths may have 107 bytes (unix(7)): relative, it is short.
    own = {
        "CHECKPOINT_DISABLE": "1", "PACKER_CACHE_DIR": str(temporary), "PACKER_CONFIG_DIR": str(temporary),
        "TMPDIR": temporary.name, "HOME": str(temporary),
    }  # fmt: skip
    process = run.start(
        build_argv(places.tree() / "packer" / template, file),
        cwd=work, env={**environment, **own}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, namespaces=True,
    )  # fmt: skip
    said = _Said()
    try:
        for event in _events(process, said.lines):
            if event.kind == "artifact":
                said.artifact = True
                if event.data[1:2] == ("id",):
                    said.id = event.data[2]
            on_event(event)
        said.status = process.wait()
    finally:
        run.stop(process, signal.SIGTERM, CANCEL_GRACE)
        shutil.rmtree(temporary, ignore_errors=True)
    return said


def _events(process: subprocess.Popen[bytes], said: deque[str]) -> Iterator[Event]:
    assert process.stdout is not None
    for raw in process.stdout:
        line = raw.decode(errors="replace")
        event = parse(line)
        if event is None:
            said.append(line.rstrip())
            continue
        said.extend(event.text.splitlines())
        yield event


def _fault(said: _Said, artifact: str, console: str) -> BakeError:
    """Return the error for a build that failed, by Packer's last lines and the machine's; its log has all of them."""
    error = _meaning(said, artifact, console)
    error.log = "\n".join([*said.lines, *(["--- the console", console] if console else [])])
    return error


def _meaning(said: _Said, artifact: str, console: str) -> BakeError:
    told = [line.strip() for line in said.lines]
    ours = next((line for line in told if "app-setup failed: " in line), "")
    details = relevant("\n".join(said.lines))
    reason = ours.partition("app-setup failed: ")[2]
    if not reason and any("bake: app-setup success, app " in line for line in told):
        reason = "app start failed"
    if reason:
        journal = next((number for number, line in enumerate(told) if line.endswith(JOURNAL)), -1)
        lines = list(said.lines)[journal + 1 :]
        return of_setup(reason, "\n".join(line for line in lines if not line.startswith(PACKERS)))
    if "Kernel panic" in console:
        return PackerError(
            "The kernel of the machine that was baked panicked",
            "Emulated machines do, rarely: run the same command again. The console's last lines are above.",
            "\n".join(console.splitlines()[-40:]),
        )
    if any("no space left" in line.lower() for line in told):
        return SpaceError(
            "The disk became full while Packer was at work",
            "Free some room, or set BAKE_CACHE to another disk.",
            details,
        )
    if said.status == 0:
        return PackerError(
            f"Packer says it succeeded, and there is no {artifact}", "Its last lines are above.", details
        )
    return PackerError(
        f"Packer failed with exit status {said.status}",
        "Its last lines are above; `bake doctor` checks this machine.",
        details,
    )


def milestone(event: Event) -> tuple[float, str] | None:
    """How much of a bake is done when Packer says this, and what it is at."""
    for words, share, what in MILESTONES:
        if words in event.text:
            return share, what
    return None
