"""A sweep as its folder tells it: what the report, and the comparison of two sweeps, are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dfkd_exp.report.setting import Figure, Setting, settings_of
from dfkd_exp.report.status import Status, read_sweep, status_of
from dfkd_exp.run_folder import read_study


@dataclass(frozen=True)
class Sweep:
    """A sweep, or a run, as its folder tells it."""

    folder: Path
    settings: list[Setting]
    jobs: list[Status]
    objective: str | None = None
    """What a search looked for, by its name in the result files; None for other sweeps."""
    trials: list[Status] = field(default_factory=list)
    """Finished trials of a search's study that other commands ran."""

    @property
    def unfinished(self) -> list[Status]:
        """The jobs that the same command would run again; those that a search has ended early are not among them."""
        return [job for job in self.jobs if job.state not in ("done", "pruned")]

    def folders_of(self, setting: Setting) -> list[Path]:
        """The folders of a setting's runs, in the order of its results."""
        places = {id(job.result): job.folder for job in [*self.jobs, *self.trials]}
        return [places[id(result)] for result in setting.results]


def read(folder: Path) -> Sweep:
    """The sweep in ``folder``, as far as it is; of a search all trials of its study that are finished, in their order."""
    jobs = read_sweep(folder)
    objective, places = read_study(folder) or (None, [])
    own = {job.folder: job for job in jobs}
    trials = {place: status_of(place) for place in places if place not in own}
    ordered = [*(own.get(place) or trials[place] for place in places), *(own[p] for p in own if p not in places)]
    results = [job.result for job in ordered if job.result is not None]
    return Sweep(folder, settings_of(results), jobs, objective, [*trials.values()])


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
