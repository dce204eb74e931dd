"""A sweep's results by setting: what the report, and the comparison of two sweeps, are made of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfkd_exp.report.published import published
from dfkd_exp.report.status import Status, read_sweep
from dfkd_exp.report.tables import by_setting, shown, teacher_accuracy

NOT_OF_THE_STUDENT = ("teacher", "evaluation", "privacy", "shadows", "likeness")
"""Phases whose seconds are not counted as the student's."""


@dataclass(frozen=True)
class Figure:
    """A mean over seeds and its deviation, in the unit of what it is of; None where nothing was measured."""

    mean: float | None
    deviation: float | None = None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Figure:
        known = [value for value in values if value is not None and math.isfinite(value)]
        if not known:
            return cls(None)
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)

    def text(self, decimals: int = 2) -> str:
        if self.mean is None:
            return "–"
        after = "" if self.deviation is None else f" ± {self.deviation:,.{decimals}f}"
        return f"{self.mean:,.{decimals}f}{after}"


@dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing but the seed; accuracies and agreements in per cent."""

    title: str
    results: list[dict[str, Any]]

    def over_seeds(self, name: str, unit: float = 1) -> Figure:
        """Of a field of the result files, times ``unit``."""
        return Figure.of([None if (value := result.get(name)) is None else unit * value for result in self.results])

    def percent(self, name: str) -> Figure:
        return self.over_seeds(name, 100)

    @property
    def curve(self) -> list[tuple[float, Figure]]:
        """Seconds and true accuracy over the student's training, means over the seeds that have them; empty without snapshots."""
        by_epoch: dict[int, list[dict[str, Any]]] = {}
        for point in (point for result in self.results for point in result.get("curve") or []):
            by_epoch.setdefault(point["epoch"], []).append(point)
        return [
            (statistics.fmean(p["seconds"] for p in points), Figure.of([100 * p["accuracy"] for p in points]))
            for _, points in sorted(by_epoch.items())
        ]

    @property
    def accuracy(self) -> Figure:
        """True accuracy; nothing stands in its place where there was no test set."""
        return self.percent("accuracy")

    @property
    def published(self) -> float | None:
        """The accuracy that was published for the row, if this is one."""
        return published(self.results[0])

    @property
    def difference(self) -> Figure:
        """Of our mean accuracy from the published one, in points."""
        if self.published is None or self.accuracy.mean is None:
            return Figure(None)
        return Figure(self.accuracy.mean - self.published)

    @property
    def teacher(self) -> Figure:
        return Figure.of([None if (value := teacher_accuracy(r)) is None else 100 * value for r in self.results])

    @property
    def num_bytes(self) -> int:
        return self.results[0]["source_bytes"]

    @property
    def seconds(self) -> Figure:
        """What the student cost: of all phases but the teacher's training, which is the same whatever is published, and what is measured
        when all is done; what statistics say as activations only where images were made from them, and not for an attack alone."""
        found = []
        for result in self.results:
            others = NOT_OF_THE_STUDENT if result.get("image_steps") != 0 else (*NOT_OF_THE_STUDENT, "signals")
            found.append(sum(phase["seconds"] for name, phase in result["phases"].items() if name not in others))
        return Figure.of(found)

    @property
    def attacked(self) -> bool:
        """Whether it was measured what the runs give away."""
        return any(result.get("privacy") for result in self.results)

    def attack(self, on: str, figure: str = "auc") -> Figure:
        """Membership inference by what an attack sees: ``auc``, or the true positives ``tpr_at_0.1%`` and ``tpr_at_1%`` in per cent."""
        found = [
            result["privacy"]["attacks"].get(on, {}).get(figure) for result in self.results if result.get("privacy")
        ]
        return Figure.of([100 * value["rate"] if isinstance(value, dict) else value for value in found])

    def nearest(self, what: str) -> Figure:
        """The mean distance of what the student was shown to the nearest ``training`` or ``held_out`` image."""
        return Figure.of([result["privacy"]["nearest"][what] for result in self.results if result.get("privacy")])

    @property
    def real(self) -> bool:
        """Whether the student saw real images."""
        return self.results[0]["source"] in ("FromData", "SameBytes")

    @property
    def shown(self) -> str:
        return shown(self.results[0])


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


def read(folder: Path) -> Sweep:
    """The sweep in ``folder``, as far as it is."""
    jobs = read_sweep(folder)
    results = [job.result for job in jobs if job.result is not None]
    settings = [Setting(title, group) for title, group in by_setting(results).items()]
    return Sweep(folder, settings, jobs)


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
