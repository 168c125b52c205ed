"""What the steps of app-setup share: programs, links, words for the journal and for visitors, and how a step fails."""

import os
import re
import subprocess
import time
from pathlib import Path

#: What nginx tells visitors while the app does not answer; the machine's own words, never a program's.
STATE = Path("/run/app/state")
#: In a release: another one came after it, whose steps its data has seen.
FOLLOWED = "followed"
#: What no waiting mends.
HOPELESS = re.compile(
    "hopeless|DO NOT MATCH|space left|free space|Unable to locate|candidate|error: 4(?!08|29)|' not found|Username"
)
#: Seconds for what a network, a mirror or another program may hold up.
PATIENCE = 600


class StepError(Exception):
    """A step failed; the message says what and what to do."""


class Waiting(StepError):
    """Somebody has to give this machine a setting first."""


def say(text: str) -> None:
    """A line for the journal."""
    print(text, flush=True)


def tell(state: str) -> None:
    """How the site is, for its visitors: "This site …"."""
    STATE.parent.mkdir(exist_ok=True)
    STATE.write_text(state)


def command(*argv: object, patience: float = 900, env: dict | None = None, cwd: Path | None = None) -> str:
    """Run a program; its standard output. Seconds of patience."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=patience, cwd=cwd, env={**os.environ, **(env or {})},
    )  # fmt: skip
    if done.returncode:
        said = " ".join(words[:4])
        raise StepError(f"`{said} …` failed with {done.returncode}:\n{done.stdout.strip()[-2000:]}")
    return done.stdout


def patiently(*argv: object, **options: object) -> str:
    """`command`, again and again while there is hope and PATIENCE: a lock, a network or a clock may come right."""
    deadline, pause = time.monotonic() + PATIENCE, 2
    while True:
        try:
            return command(*argv, **options)
        except (StepError, subprocess.TimeoutExpired) as problem:
            if HOPELESS.search(str(problem)) or time.monotonic() + pause > deadline:
                raise
            say(f"<4>retry in {pause} s: {problem}")
        time.sleep(pause)
        pause = min(2 * pause, 60)


def link(place: Path, target: Path) -> None:
    """Make `place` lead to `target`, in one step."""
    new = place.with_name(f".{place.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.rename(place)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.rename(path)
