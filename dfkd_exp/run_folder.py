"""What lies in the folder of a run, and of a sweep: who writes it and who reads it agree here."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dfkd_exp import console
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import read_json, regular_size, write_atomically
from dfkd_exp.harmless import brief, printable
from dfkd_exp.locks import is_held, lock
from dfkd_exp.schema import require_schema

RESULT, PICTURE, NEAREST, LIKENESS = "result.json", "reconstructions.png", "nearest.png", "likeness.png"
ERROR, STDERR, LOG = "error.txt", "stderr.txt", "log.txt"
JOB, SWEEP, STUDY, FORECAST = "job.json", "sweep.json", "study.json", "forecast.txt"
PRUNED, RELEASED = "pruned.txt", "released.txt"
"""What is left of a run that a search has ended, and of one that ends with its release: in words."""
RUNNING = "running.lock"
"""Held by the process that is at it, in a sweep's folder by the command that runs its jobs; the system drops it with the process, so that
a killed job is not taken for a running one."""

OBJECTIVES = {
    "agreement_mixed": "maximize",
    "agreement_mixed_by_class": "maximize",
    "agreement_held_out": "maximize",
    "reconstruction_loss": "minimize",
    "agreement_training": "maximize",
    "agreement": "maximize",
    "accuracy": "maximize",
}
"""What may be searched for, by its name in result.json. The first four need no data, the fifth training images; the last two look at the
test set, and so are never the default."""


def leave_traceback(folder: Path) -> str:
    """Write the traceback of the error that is being handled into ``folder``; words for where it is, empty on a disk that is full."""
    with suppress(OSError):
        (folder / ERROR).write_text(printable(traceback.format_exc(), keep="\n"), "utf-8")
        return f"; the traceback is in {console.short(folder / ERROR)}"
    return ""


@contextmanager
def at_work(
    folder: Path, overrides: Sequence[str], row: Mapping[str, Any] | None = None, words: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Say in ``folder`` that this process runs the job with ``overrides`` there, for as long as the context lasts.

    ``row``: of the experiment's table, if it is one; ``words``: the overrides' words for people.
    """
    with lock(folder / RUNNING):
        (folder / ERROR).unlink(missing_ok=True)  # of an earlier attempt
        about = {
            "overrides": list(overrides),
            "row": row,
            "words": words or {},
            "started": time.time(),
            "machine": platform.node(),
            "process": os.getpid(),
        }
        write_atomically(folder / JOB, (json.dumps(about, indent=2) + "\n").encode())
        try:
            yield
        finally:
            (folder / RUNNING).unlink(missing_ok=True)


def is_running(folder: Path) -> bool:
    """Whether a process is at the job, or the sweep, in ``folder``."""
    return (folder / RUNNING).is_file() and is_held(folder / RUNNING)


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
    write_atomically(folder / SWEEP, (json.dumps(plan, indent=2) + "\n").encode())


def note_study(folder: Path, objective: str, trials: Sequence[Path]) -> None:
    """Write into a search's ``folder`` what it searches for and where its study's finished ``trials`` lie: those of other commands too."""
    places = [os.path.relpath(place.absolute(), folder.absolute()) for place in trials]
    write_atomically(folder / STUDY, (json.dumps({"objective": objective, "trials": places}, indent=2) + "\n").encode())


def read_study(folder: Path) -> tuple[str, list[Path]] | None:
    """What `note_study` wrote: the objective, and the folders of the trials; None if it is not there, and after a warning if it cannot be
    read."""
    study = _read(folder / STUDY, _STUDY)
    if not {"objective", "trials"} <= study.keys():
        return None
    return study["objective"], [Path(os.path.normpath(folder / place)) for place in study["trials"]]


def planned_jobs(folder: Path) -> list[dict[str, Any]]:
    """A sweep's jobs, as far as they are known beforehand: ``overrides``, ``row`` and ``words`` of each."""
    plan = read_plan(folder)
    rows = {f"row={row['name']}": row for row in plan.get("rows") or []}
    return [
        {"overrides": job, "row": next((rows[text] for text in job if text in rows), None), "words": plan["words"]}
        for job in plan.get("jobs") or []
    ]


def jobs_left(folder: Path) -> list[list[str]]:
    """The overrides of those jobs of the sweep in ``folder`` that have not ended, as far as they are known; none if it is no sweep's."""
    planned = (read_plan(folder).get("jobs") or []) if (folder / SWEEP).is_file() else []
    return [job for number, job in enumerate(planned) if not has_ended(folder / str(number))]


def has_ended(folder: Path) -> bool:
    """Whether the run in ``folder`` has nothing left to do."""
    return any((folder / name).is_file() for name in (RESULT, PRUNED, RELEASED))


def job_numbers(folder: Path) -> list[int]:
    """Of the jobs that have begun: each has a folder of its own."""
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def read_plan(folder: Path) -> dict[str, Any]:
    """What `plan_sweep` wrote; empty if it is not there, and after a warning if it cannot be read."""
    return _read(folder / SWEEP, _PLAN)


def read_job(folder: Path) -> dict[str, Any]:
    """What `at_work` wrote; empty if it is not there, and after a warning if it cannot be read."""
    return _read(folder / JOB, _ABOUT)


def read_result(folder: Path) -> dict[str, Any] | None:
    """The figures of the run in ``folder``; None if it has none. DfkdError, with file and line, if they cannot be read."""
    path = folder / RESULT
    if not os.path.lexists(path):
        return None
    try:
        result = read_json(path)
        require_schema(result, "result-v1")
    except (OSError, ValueError) as error:
        raise DfkdError(
            f"{path} cannot be read ({_why(error)}); remove it, and the same command makes it again"
        ) from error
    return result


def read_text(path: Path) -> str:
    """What stands in a text file of a run; nothing if it is not there, or not a file."""
    try:
        regular_size(path)
        return path.read_text("utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


def last_line(path: Path) -> str:
    """The last line of a text file that is not blank: what a traceback ends in."""
    return next((line for line in reversed(read_text(path).splitlines()) if line.strip()), "")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _words(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _row(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _texts(value.get("set"))
        and all(isinstance(value.get(n), str) for n in ("name", "title"))
    )


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float)


_PLAN: dict[str, Callable[[Any], bool]] = {
    "command": _texts, "started": _seconds, "words": _words,
    "jobs": lambda value: value is None or (isinstance(value, list) and all(map(_texts, value))),
    "rows": lambda value: isinstance(value, list) and all(map(_row, value)),
}  # fmt: skip
_STUDY: dict[str, Callable[[Any], bool]] = {
    "objective": lambda value: isinstance(value, str) and value in OBJECTIVES, "trials": _texts,
}  # fmt: skip
_ABOUT: dict[str, Callable[[Any], bool]] = {
    "overrides": _texts, "started": _seconds, "words": _words, "row": lambda value: value is None or _row(value),
}  # fmt: skip
"""What a file of a run must say, and of what form. Fields that are absent are of an older version."""


def _read(path: Path, fields: Mapping[str, Callable[[Any], bool]]) -> dict[str, Any]:
    try:
        found = read_json(path)
        wrong = [name for name, right in fields.items() if name in found and not right(found[name])]
        if not isinstance(found, dict) or wrong:
            raise ValueError(f"{', '.join(wrong) or 'all of it'} is not what is written there")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        console.warn(f"{path} cannot be read ({_why(error)}); what it says is left out")
        return {}
    return {"words": {}, **found}


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or brief(str(error))
