"""``dfkd-status``: how far a sweep, or a run, is; while it runs, on whatever machine that sees its folder, and afterwards."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from dfkd_exp import console
from dfkd_exp.config.overrides import is_of
from dfkd_exp.errors import DfkdError
from dfkd_exp.report.tables import percent
from dfkd_exp.report.titles import described, titles
from dfkd_exp.run_folder import (
    ERROR,
    JOB,
    LOG,
    PRUNED,
    RELEASED,
    RESULT,
    SWEEP,
    is_running,
    job_numbers,
    last_line,
    planned_jobs,
    read_job,
    read_result,
    read_text,
)
from dfkd_exp.terminal import at_terminal

STATES = {
    "done": "green",
    "running": "cyan",
    "pruned": "yellow",
    "failed": "red",
    "unreadable": "red",
    "stopped": "yellow",
    "waiting": "dim",
    "not begun": "dim",
}
"""``stopped``: it was started, has neither a result nor an error, and nobody is at it: killed, or interrupted. ``unreadable``:
something has damaged its result. ``waiting``: the command that started the sweep has not come to it; ``not begun``: and
has ended, though a cluster's queue may still have it."""


TIME_LEFT = re.compile(r", [^,;]* left$")
"""What a line of progress ends in, of a job that goes on."""


@dataclass(frozen=True)
class Status:
    """Of one job: what it is called, its state, what it is doing, the ``seconds`` that it took or takes so far, its figures."""

    title: str
    folder: Path
    state: str
    doing: str = ""
    seconds: float | None = None
    result: dict[str, Any] | None = None


def status_of(folder: Path, title: str = "") -> Status:
    """The status of the job in ``folder``, which is called ``title``."""
    started = read_job(folder).get("started")
    try:
        result = read_result(folder)
    except DfkdError as error:
        return Status(title, folder, "unreadable", str(error))
    if result is not None:
        return Status(title, folder, "done", "", _took(folder / RESULT, started), result)
    if (folder / RELEASED).is_file():
        return Status(title, folder, "done", read_text(folder / RELEASED).strip(), _took(folder / RELEASED, started))
    if (folder / PRUNED).is_file():
        return Status(title, folder, "pruned", read_text(folder / PRUNED).strip())
    if is_running(folder):
        return Status(title, folder, "running", _last_words(folder), time.time() - started if started else None)
    if (folder / ERROR).is_file():
        return Status(title, folder, "failed", _error(folder / ERROR))
    if started:
        return Status(title, folder, "stopped", TIME_LEFT.sub("", _last_words(folder)))
    return Status(title, folder, "waiting" if is_running(folder.parent) else "not begun")


def _took(last: Path, started: float | None) -> float | None:
    """Seconds from a run's start to the ``last`` file that it wrote."""
    return last.stat().st_mtime - started if started else None


def read_sweep(folder: Path) -> list[Status]:
    """The jobs of a sweep, in the order of their numbers; or the one run in ``folder``."""
    numbers = set(job_numbers(folder))
    planned = planned_jobs(folder)
    numbers |= set(range(len(planned)))
    alone = not (folder / SWEEP).is_file() and not numbers
    folders = [folder] if alone else [folder / str(number) for number in sorted(numbers)]
    told = dict(zip((folder / str(number) for number in range(len(planned))), planned, strict=True))
    runs = [{"overrides": [], **(told.get(place) or read_job(place))} for place in folders]
    if alone:
        return [status_of(folder, described(runs[0]))]
    seeds = [next((text for text in run["overrides"] if is_of(text, ("seed",))), "") for run in runs]
    named = [
        "; ".join(filter(None, [title, seed.replace("=", " ") if len(set(seeds)) > 1 else ""]))
        for title, seed in zip(titles(runs), seeds, strict=True)
    ]
    return [status_of(place, title) for place, title in zip(folders, named, strict=True)]


def seconds_left(jobs: list[Status]) -> float | None:
    """An estimate: as many jobs at once as run now, each as long as those that are done took; None if none is."""
    took = [job.seconds for job in jobs if job.state == "done" and job.seconds is not None]
    running = [job for job in jobs if job.state == "running"]
    waiting = sum(job.state == "waiting" for job in jobs)
    if not took or not running:
        return None
    usual = sum(took) / len(took)
    begun = sum(max(usual - (job.seconds or 0), 0) for job in running)
    return (begun + waiting * usual) / len(running)


LIFE = (SWEEP, JOB, RESULT, LOG, ERROR, PRUNED, RELEASED)
"""Files whose time tells when something was done; a report may be written at any time."""


def newest(folder: Path) -> Path:
    """``folder`` if it is a sweep or a run; else the newest one in it. DfkdError if there is none."""
    return by_age(folder)[0]


def by_age(folder: Path) -> list[Path]:
    """``folder`` if it is a sweep or a run; else those in it, the newest first. DfkdError if there is none."""
    if not folder.is_dir():
        what = "is a file, and no folder" if folder.exists() else "there is no such folder"
        raise DfkdError(f"{folder}: {what}; name the outputs, or the folder of a sweep or a run")
    if any((folder / name).is_file() for name in (SWEEP, JOB, RESULT)) or job_numbers(folder):
        return [folder]
    place = folder / "runs" if (folder / "runs").is_dir() else folder  # the store beside it may be large
    marks = [*place.glob(f"**/{SWEEP}"), *place.glob(f"**/{JOB}")]
    folders = {mark.parent for mark in marks}
    found = [place for place in folders if place.parent not in folders]  # a sweep's jobs are shown with it
    if not found:
        raise DfkdError(f"{folder}: no sweep and no run is in it; name the outputs, or the folder of a sweep or a run")

    def age(place: Path) -> float:
        return max(path.lstat().st_mtime for path in place.iterdir() if path.name in LIFE or path.is_dir())

    return sorted(found, key=age, reverse=True)


def status_table(jobs: list[Status]) -> Table:
    """A line per job."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("job", justify="right")
    table.add_column("state")
    table.add_column("setting", overflow="fold")
    table.add_column("seconds", justify="right")
    table.add_column("accuracy %", justify="right")
    table.add_column("now", overflow="fold")
    for job in jobs:
        table.add_row(
            escape(job.folder.name),
            f"[{STATES[job.state]}]{job.state}[/]",
            escape(job.title),
            "" if job.seconds is None else f"{job.seconds:,.0f}",
            percent(job.result["accuracy"]) if job.result else "",
            escape(job.doing),
        )
    return table


def summary(folder: Path, jobs: list[Status]) -> str:
    """One line: how many are in which state, and the time left."""
    counts = Counter(job.state for job in jobs)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    left = seconds_left(jobs)
    if left is not None:
        parts.append(f"about {console.duration(left)} left")
    if any(counts[state] for state in ("stopped", "failed", "unreadable", "not begun")):
        parts.append("the same command again runs what is missing")
    return f"{folder}: {len(jobs)} job{'s' if len(jobs) > 1 else ''}: {', '.join(parts)}"


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0.1 <= (value := float(text)) <= 1e6:  # NaN is not
            return value
    raise argparse.ArgumentTypeError(f"must be a number of seconds from 0.1 to 1,000,000, got {text!r}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="dfkd-status", description="How far a sweep, or a run, is: done, running, failed, the time left."
    )
    parser.add_argument(
        "folder", nargs="?", default="outputs", type=Path, help="a sweep, a run, or the outputs (default)"
    )
    parser.add_argument(
        "--watch", type=_seconds, metavar="SECONDS", help="show it again every so many seconds until it is over"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    with at_terminal():
        said = parser.parse_args()
        try:
            while True:
                folder = newest(said.folder)
                jobs = read_sweep(folder)
                if said.json:
                    lines = [{**vars(job), "folder": str(job.folder)} for job in jobs]
                    print(
                        json.dumps({"folder": str(folder), "seconds_left": seconds_left(jobs), "jobs": lines}, indent=2)
                    )
                else:
                    console.show(status_table(jobs))
                    console.show(escape(summary(folder, jobs)))
                if not said.watch or not any(job.state in ("running", "waiting") for job in jobs):
                    return
                time.sleep(said.watch)
        except DfkdError as error:
            console.error(str(error))
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(130)
        except OSError as error:
            console.error(f"{error.strerror}: {error.filename}")
            sys.exit(1)


def _last_words(folder: Path) -> str:
    """The phase that a job is in, and how far it is there."""
    lines = read_text(folder / LOG).splitlines()
    start = max((index for index, line in enumerate(lines) if line.startswith("▸")), default=len(lines))
    phase = [line.strip() for line in lines[start:] if line.strip()]
    return "; ".join([phase[0].lstrip("▸ "), *([phase[-1]] if len(phase) > 1 else [])]) if phase else ""


def _error(path: Path) -> str:
    line = last_line(path)
    return f"{line.removeprefix('dfkd_exp.errors.')} ({path})" if line else str(path)


if __name__ == "__main__":
    main()
