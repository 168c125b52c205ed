"""What the steps of app-setup share: programs, links, words for the journal, and how a step fails."""

import os
import subprocess
from pathlib import Path


class StepError(Exception):
    """A step failed; the message says what and what to do."""


def say(text: str) -> None:
    """A line for the journal."""
    print(text, flush=True)


def command(*argv: object, patience: float = 900, env: dict | None = None) -> str:
    """Run a program; its standard output. Seconds of patience."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=patience, env={**os.environ, **(env or {})},
    )  # fmt: skip
    if done.returncode:
        raise StepError(f"`{' '.join(words[:4])} …` failed with {done.returncode}:\n{done.stdout.strip()[-2000:]}")
    return done.stdout


def link(place: Path, target: Path) -> None:
    """Make `place` lead to `target`, in one step."""
    new = place.with_name(f".{place.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.rename(place)
