"""What one sees: headings, progress bars with the time left, and the table at the end."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

console = Console(highlight=False, soft_wrap=True)
_SECONDS_BETWEEN_LINES = 10.0


def heading(text: str) -> None:
    """Announce a phase."""
    console.print(f"[bold cyan]▸ {text}[/]")


def note(text: str) -> None:
    """A line under the heading."""
    console.print(f"  [dim]{text}[/]")


def warn(text: str) -> None:
    """Something that a person should know, on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[yellow]warning:[/] {text}")


class Progress:
    """A bar with the time left on a terminal; elsewhere (a log file, a cluster) a line every ten seconds."""

    def __init__(self, label: str, total: int):
        self.label, self.total, self.done = label, total, 0
        self._started = self._last_line = time.monotonic()
        self._bar: RichProgress | None = None
        if console.is_terminal:
            self._bar = RichProgress(
                TextColumn("  {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("[dim]left[/]"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(label, total=total)
            self._bar.start()

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        if self._bar is not None:
            self._bar.advance(self._task, amount)
            return
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = (now - self._started) / self.done * max(self.total - self.done, 0)
            console.print(f"  {self.label}: {self.done:,} of {self.total:,}, {left:,.0f} s left")
            sys.stdout.flush()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Any:
        self.close()
