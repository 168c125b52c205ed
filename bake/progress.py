"""What one sees while a bake works: a live line a phase on a terminal, plain lines elsewhere.

Everything here goes to standard error; standard output carries results alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from bake.terminal import Terminal, one_line


class Phase:
    """One phase under way. `progress` may be called from any thread, as often as one likes."""

    def __init__(self, name: str, show: Progress | None) -> None:
        self.name = name
        self.started = time.monotonic()
        self._show = show
        self._task = show.add_task(name, total=1.0, what="") if show else None

    def progress(self, share: float | None = None, what: str = "") -> None:
        """Show the `share` of the phase that is done, from 0 to 1, and what it is at, in one line."""
        if self._show is not None and self._task is not None:
            self._show.update(self._task, completed=share, what=one_line(what))


@dataclass
class Reporter:
    """Tells a person how far things are, and keeps the seconds of each phase."""

    console: Terminal = field(default_factory=Terminal)
    seconds: dict[str, float] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, soft_wrap=True)

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Show a phase while the block runs; its time is kept, and shown when it ends."""
        if self.console.is_terminal:
            # The width that the other columns leave: the text is cut there, and the line stays one line.
            rest = Column(ratio=1, no_wrap=True)
            show = Progress(
                SpinnerColumn(), TextColumn("{task.description:<10}"), BarColumn(24), TimeElapsedColumn(),
                TextColumn("{task.fields[what]}", style="dim", markup=False, table_column=rest),
                console=self.console, transient=True, expand=True,
            )  # fmt: skip
            with show:
                phase = Phase(name, show)
                yield phase
        else:
            self.note(f"{name} …")
            phase = Phase(name, None)
            yield phase
        seconds = time.monotonic() - phase.started
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.note(f"{name:<12} {seconds:6.1f} s")
