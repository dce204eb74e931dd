"""A sweep as its folder tells it: what the report, and the comparison of two sweeps, are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dfkd_exp.report.setting import Figure, Setting, settings_of
from dfkd_exp.report.status import Status, read_sweep


@dataclass(frozen=True)
class Sweep:
    """A sweep, or a run, as its folder tells it."""

    folder: Path
    settings: list[Setting]
    jobs: list[Status]

    @property
    def unfinished(self) -> list[Status]:
        """The jobs that the same command would run again; those that a search has ended early are not among them."""
        return [job for job in self.jobs if job.state not in ("done", "pruned")]

    def folders_of(self, setting: Setting) -> list[Path]:
        """The folders of a setting's runs, in the order of its results."""
        places = {id(job.result): job.folder for job in self.jobs}
        return [places[id(result)] for result in setting.results]


def read(folder: Path) -> Sweep:
    """The sweep in ``folder``, as far as it is."""
    jobs = read_sweep(folder)
    results = [job.result for job in jobs if job.result is not None]
    return Sweep(folder, settings_of(results), jobs)


def pareto(settings: Sequence[Setting]) -> list[Setting]:
    """Those of which no other has at least the accuracy for fewer bytes, by bytes; real images left out."""
    candidates = [s for s in settings if s.accuracy.mean is not None and not s.real]
    front: list[Setting] = []
    for setting in sorted(candidates, key=lambda s: (s.num_bytes, -(s.accuracy.mean or 0))):
        if not front or (setting.accuracy.mean or 0) > (front[-1].accuracy.mean or 0):
            front.append(setting)
    return front


def differ(one: Figure, other: Figure) -> bool | None:
    """Whether two means are further apart than twice the deviation of their difference over seeds; None if that is not known."""
    if one.mean is None or other.mean is None or one.deviation is None or other.deviation is None:
        return None
    return abs(one.mean - other.mean) > 2 * math.hypot(one.deviation, other.deviation)
