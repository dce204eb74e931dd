"""What lies in the folder of a run, and of a sweep: who writes it and who reads it agree here."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

RESULT, PICTURE, NEAREST = "result.json", "reconstructions.png", "nearest.png"
ERROR, STDERR, LOG = "error.txt", "stderr.txt", "log.txt"
JOB, SWEEP = "job.json", "sweep.json"
PRUNED = "pruned.txt"
RUNNING = "running.lock"
"""Held by the process that is at it; the system drops it with the process, so that a killed job is not taken for a running one."""


@contextmanager
def at_work(
    folder: Path, overrides: Sequence[str], row: Mapping[str, Any] | None = None, words: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Say in ``folder`` that this process runs the job with ``overrides`` there, for as long as the context lasts.

    ``row``: of the experiment's table, if it is one; ``words``: the overrides' words for people.
    """
    with FileLock(folder / RUNNING):
        (folder / ERROR).unlink(missing_ok=True)  # of an earlier attempt
        about = {
            "overrides": list(overrides),
            "row": row,
            "words": words or {},
            "started": time.time(),
            "machine": platform.node(),
            "process": os.getpid(),
        }
        (folder / JOB).write_text(json.dumps(about, indent=2) + "\n")
        try:
            yield
        finally:
            (folder / RUNNING).unlink(missing_ok=True)


def is_running(folder: Path) -> bool:
    """Whether a process is at the job in ``folder``."""
    if not (folder / RUNNING).exists():
        return False
    try:
        with FileLock(folder / RUNNING, timeout=0):
            return False
    except Timeout:
        return True


def plan_sweep(
    folder: Path,
    jobs: Sequence[Sequence[str]] | None,
    rows: Sequence[Mapping[str, Any]] = (),
    words: Mapping[str, str] | None = None,
) -> None:
    """Write what a sweep is to run: the overrides of its ``jobs``, or None if they are not known beforehand; the ``rows`` of the
    experiment that are among them, and the overrides' ``words`` for people."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = {
        "command": ["dfkd", *sys.argv[1:]],
        "started": time.time(),
        "jobs": jobs and [list(job) for job in jobs],
        "rows": list(rows),
        "words": words or {},
    }
    (folder / SWEEP).write_text(json.dumps(plan, indent=2) + "\n")


def planned_jobs(folder: Path) -> list[dict[str, Any]]:
    """A sweep's jobs, as far as they are known beforehand: ``overrides``, ``row`` and ``words`` of each."""
    plan = read_json(folder / SWEEP) or {}
    rows = {f"row={row['name']}": row for row in plan.get("rows") or []}
    return [
        {"overrides": job, "row": next((rows[text] for text in job if text in rows), None), "words": plan["words"]}
        for job in plan.get("jobs") or []
    ]


def read_json(path: Path) -> dict[str, Any] | None:
    """What a file of a run holds; None if it is not there, or not whole yet."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
