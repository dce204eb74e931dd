"""What one sees: headings, progress bars with the time left, and the table at the end; all of it in the run's log too."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.segment import Segment

from dfkd_exp.harmless import printable


class HarmlessConsole(Console):
    """A console on which text moves no cursor and changes no colour, whoever wrote it: that is for styles and controls."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text, keep="\n"))


console = HarmlessConsole(highlight=False, soft_wrap=True, width=None if sys.stdout and sys.stdout.isatty() else 120)
_errors = HarmlessConsole(stderr=True, highlight=False, soft_wrap=True)
_logs: list[Console] = []
_SECONDS_BETWEEN_LINES = 10.0


def be_quiet() -> None:
    """Show nothing but errors: of several processes of one run, one speaks."""
    console.quiet = True


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Write what is shown to a file as well, for as long as the context lasts."""
    with path.open("a", encoding="utf-8") as file:
        _logs.append(HarmlessConsole(file=file, highlight=False, soft_wrap=True, width=140))
        try:
            yield
        finally:
            _logs.pop()


def show(thing: Any) -> None:
    """Print a line or a table."""
    for target in (console, *_logs):
        target.print(thing)
        target.file.flush()


def heading(text: str) -> None:
    """Announce a phase."""
    show(f"[bold cyan]▸ {escape(printable(text))}[/]")


def note(text: str) -> None:
    """A line under the heading."""
    show(f"  [dim]{escape(printable(text))}[/]")


def warn(text: str) -> None:
    """Something that a person should know, on stderr."""
    _complain("[yellow]warning:[/] ", text)


def error(text: str) -> None:
    """What went wrong, on stderr."""
    _complain("[bold red]error:[/] ", text)


def _complain(label: str, text: str) -> None:
    for target in (_errors, *_logs):
        target.print(label, end="")
        target.print(printable(text), markup=False)  # in one line: a second one would look like a message of its own
        target.file.flush()


def short(path: Path) -> str:
    """Relative to the working directory, if it is inside it."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(num_bytes: int) -> str:
    """``640 kB``, ``21 MB``, ``3.5 GB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.{0 if num_bytes >= 10 * unit else 1}f} {name}"
    return f"{num_bytes / 1e3:.0f} kB"


class Progress:
    """A bar with the time left on a terminal; elsewhere (a log file, a cluster) a line every ten seconds."""

    def __init__(self, label: str, total: int):
        self.label, self.total, self.done = label, total, 0
        self._last_line = time.monotonic()
        self._first: tuple[float, int] | None = (
            None  # when the first step was done, which may have compiled much, and how many were by then
        )
        self._bar: RichProgress | None = None
        if console.is_terminal and not console.quiet:
            self._bar = RichProgress(
                TextColumn("  {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("[dim]left[/]"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task(label, total=total)
            self._bar.start()

    def skip(self, amount: int) -> None:
        """Count what an earlier, interrupted run has done; it does not enter the estimate of the time left."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done)

    def advance(self, amount: int = 1, so_far: str = "") -> None:
        """``so_far``: what else there is to say of it."""
        self.done += amount
        label = f"{self.label}, {so_far}" if so_far else self.label
        if self._bar is not None:
            self._bar.update(self._task, advance=amount, description=label)
            return
        now = time.monotonic()
        self._first = self._first or (now, self.done)
        since, before = self._first
        if now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = ""
            if self.done > before:
                left = f", {duration((now - since) / (self.done - before) * max(self.total - self.done, 0))} left"
            show(f"  {label}: {self.done:,} of {self.total:,}{left}")
            sys.stdout.flush()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        self.close()
