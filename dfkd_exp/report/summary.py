"""A sweep's results by setting: what the report, and the comparison of two sweeps, are made of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfkd_exp.report.status import Status, read_sweep
from dfkd_exp.report.tables import by_setting, shown, teacher_accuracy

NEARLY_ALWAYS = 0.9
"""Area under an attack's curve above which it is said that it gives members away."""


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

    def percent(self, name: str) -> Figure:
        return Figure.of([None if (value := result[name]) is None else 100 * value for result in self.results])

    @property
    def accuracy(self) -> Figure:
        """True accuracy; nothing stands in its place where there was no test set."""
        return self.percent("accuracy")

    @property
    def teacher(self) -> Figure:
        return Figure.of([None if (value := teacher_accuracy(r)) is None else 100 * value for r in self.results])

    @property
    def num_bytes(self) -> int:
        return self.results[0]["source_bytes"]

    @property
    def seconds(self) -> Figure:
        """Of all phases but the teacher's training, which is the same whatever is published."""
        return Figure.of(
            [
                sum(phase["seconds"] for name, phase in result["phases"].items() if name != "teacher")
                for result in self.results
            ]
        )

    @property
    def attacked(self) -> bool:
        """Whether it was measured what the runs give away."""
        return any(result.get("privacy") for result in self.results)

    def attack(self, on: str, figure: str = "auc") -> Figure:
        """Membership inference by what an attack sees: ``auc``, or the true positives ``tpr_at_0.1%`` and ``tpr_at_1%`` in per cent."""
        found = [result["privacy"]["attacks"][on][figure] for result in self.results if result.get("privacy")]
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
    """Those of which no other has at least the accuracy for fewer bytes, by bytes; real images and settings without bytes left out."""
    candidates = [s for s in settings if s.accuracy.mean is not None and s.num_bytes and not s.real]
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


def _exposed(settings: Sequence[Setting]) -> list[str]:
    """What the attacks found, in words."""
    said = []
    for on, what in (("metadata", "metadata"), ("shown", "images made from it")):
        found = [s for s in settings if not s.real and s.num_bytes]
        if found:
            worst = max(found, key=lambda s: s.attack(on).mean or 0)
            floor = worst.attack("teacher")
            said.append(
                f"An attack on the {what} tells training images from others best for {worst.title}: AUC {worst.attack(on).text(3)}, and "
                f"{floor.text(3)} on the teacher alone (0.5 is chance; an attack that fails proves nothing)."
            )
            given_away = [s.title for s in found if (s.attack(on).mean or 0) > NEARLY_ALWAYS]
            if len(given_away) > 1:
                said.append(
                    f"It tells them apart nearly always (AUC above {NEARLY_ALWAYS}) for {', '.join(given_away)}."
                )
    return said


def in_words(sweep: Sweep) -> list[str]:
    """The sweep in a few sentences, computed from its figures."""
    said = []
    measured = [s for s in sweep.settings if s.accuracy.mean is not None]
    free = [s for s in measured if not s.real]
    if free:
        best = max(free, key=lambda s: s.accuracy.mean or 0)
        teacher = best.teacher.mean
        said.append(
            f"The best student that saw no real image is of {best.title}: {best.accuracy.text()} % true accuracy"
            + (f", its teacher {teacher:.2f} %." if teacher is not None else ".")
        )
        near = [s for s in free if s.num_bytes and (best.accuracy.mean or 0) - (s.accuracy.mean or 0) <= 1]
        if near:
            small = min(near, key=lambda s: s.num_bytes)
            if small is not best:
                said.append(
                    f"Within one point of it, {small.title} needs the fewest bytes: {small.num_bytes:,}, and {best.title} "
                    f"{best.num_bytes:,}."
                )
    real = [s for s in measured if s.results[0]["source"] == "SameBytes"]
    for other in real:
        rivals = [s for s in free if s.num_bytes == other.num_bytes]
        if rivals:
            rival = max(rivals, key=lambda s: s.accuracy.mean or 0)
            apart = (rival.accuracy.mean or 0) - (other.accuracy.mean or 0)
            certain = differ(rival.accuracy, other.accuracy)
            doubt = "" if certain else ", which is within what seeds differ by" if certain is False else ", of one seed"
            said.append(
                f"In {other.num_bytes:,} bytes, {rival.title} is {abs(apart):.2f} points {'better' if apart > 0 else 'worse'} than as many "
                f"bytes of real images{doubt}."
            )
    attacked = [s for s in measured if s.attacked]
    if attacked:
        said.extend(_exposed(attacked))
    single = sum(len(s.results) == 1 for s in sweep.settings)
    if single:
        said.append(
            f"{single} of {len(sweep.settings)} settings have one seed only: nothing is known of how much they vary."
        )
    if sweep.unfinished:
        said.append(
            f"{len(sweep.unfinished)} of {len(sweep.jobs)} jobs have no result, and are in none of the figures."
        )
    return said or ["Nothing was measured."]
