"""Provide the steps of app-setup with programs, files, links, retries, messages and errors."""

import os
import re
import subprocess
import time
from pathlib import Path

#: The state that nginx shows to visitors while the app does not answer. It never contains a program's output.
STATE = Path("/run/app/state")
#: Marker in a release: a newer release has run its steps since, and these may have changed the data.
FOLLOWED = "followed"
#: Errors that retrying cannot fix.
HOPELESS = re.compile(
    "hopeless|DO NOT MATCH|space left|free space|Unable to locate|candidate|error: 4(?!08|29)|' not found|Username"
)
#: Seconds to retry, since a network, a mirror or another program may cause the failure.
PATIENCE = 600


class StepError(Exception):
    """A step failed. The message names the problem and the next command or edit."""


class NotStarted(StepError):
    """A service of the app does not start."""


class Unhealthy(StepError):
    """The app is started, but its health check fails."""


class Waiting(StepError):
    """The machine lacks a setting that a user must provide first."""


def say(text: str) -> None:
    """Print a line to the journal."""
    print(text, flush=True)


def tell(state: str) -> None:
    """Write the state that visitors see, as the end of a sentence that begins with "This site"."""
    write(STATE, state)


def command(*argv: object, patience: float = 900, env: dict | None = None, cwd: Path | None = None) -> str:
    """Run a program and return its output, stdout and stderr. `patience` is the timeout in seconds.

    Raises StepError if the program fails, and TimeoutExpired.
    """
    words = [str(word) for word in argv]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        errors="replace", timeout=patience, cwd=cwd, env={**os.environ, **(env or {})},
    )  # fmt: skip
    if done.returncode:
        start = " ".join(words[:4])
        raise StepError(f"`{start} …` failed with {done.returncode}:\n{done.stdout.strip()[-2000:]}")
    return done.stdout


def patiently(*argv: object, **options: object) -> str:
    """Run `command`, and retry for PATIENCE seconds unless the error is HOPELESS. Locks and networks may recover."""
    deadline, pause = time.monotonic() + PATIENCE, 2
    while True:
        try:
            return command(*argv, **options)  # type: ignore[arg-type]
        except (StepError, subprocess.TimeoutExpired) as problem:
            if HOPELESS.search(str(problem)) or time.monotonic() + pause > deadline:
                raise
            say(f"<4>retry in {pause} s: {problem}")
        time.sleep(pause)
        pause = min(2 * pause, 60)


def link(place: Path, target: Path) -> None:
    """Make `place` a symbolic link to `target`, atomically."""
    new = place.with_name(f".{place.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.rename(place)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.rename(path)
