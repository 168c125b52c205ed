"""Report progress: one live line for each phase on a terminal, plain lines elsewhere.

Progress goes to standard error. Standard output carries only results.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bake.host.terminal import Terminal, one_line

if TYPE_CHECKING:
    from rich.progress import Progress


class Phase:
    """A phase in progress. Any thread may call `progress`, at any rate."""

    def __init__(self, name: str, display: Progress | None) -> None:
        self.name = name
        self.start_time = time.monotonic()
        self._display = display
        self._task = display.add_task(name, total=1.0, activity="") if display else None

    def progress(self, share: float | None = None, activity: str = "") -> None:
        """Show in one line the completed `share` of the phase, from 0 to 1, and its current activity."""
        if self._display is not None and self._task is not None:
            self._display.update(self._task, completed=share, activity=one_line(activity))


@dataclass
class Reporter:
    """Print progress and notes, and record the duration of each phase in seconds."""

    console: Terminal = field(default_factory=Terminal)
    seconds: dict[str, float] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Print a line that stays on the screen."""
        self.console.print(text, soft_wrap=True)

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Show a phase while the block runs. Record its duration, and print it when the block succeeds."""
        if self.console.is_terminal:
            # Only a terminal needs this import, which is a tenth of all those of `bake render`.
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.table import Column

            # The last column takes the remaining width and cuts its text there, so that the phase stays on one line.
            activity_column = Column(ratio=1, no_wrap=True)
            display = Progress(
                SpinnerColumn(), TextColumn("{task.description:<10}"), BarColumn(24), TimeElapsedColumn(),
                TextColumn("{task.fields[activity]}", style="dim", markup=False, table_column=activity_column),
                console=self.console, transient=True, expand=True,
            )  # fmt: skip
            with display:
                phase = Phase(name, display)
                yield phase
        else:
            self.note(f"{name} …")
            phase = Phase(name, None)
            yield phase
        seconds = time.monotonic() - phase.start_time
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.note(f"{name:<12} {seconds:6.1f} s")
