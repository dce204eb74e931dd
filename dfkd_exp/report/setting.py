"""Runs that differ in nothing but the seed, and their figures: what tables, reports and comparisons are made of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dfkd_exp.config.overrides import tells_teachers
from dfkd_exp.config.rows import said_otherwise
from dfkd_exp.distillation.source import FromData
from dfkd_exp.report.titles import teacher_of, titles

NOT_OF_THE_STUDENT = ("teacher", "evaluation", "privacy", "shadows", "likeness")
"""Phases whose seconds are not counted as the student's."""
FEWEST_OTHERS = 100
"""Of fewer no share of false accusations is known."""
OBJECTIVE_DECIMALS = 4
"""Of what a search looked for, which is shown as it stands in the result files."""


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
        """Membership inference by what an attack sees: ``auc``, or the true positives ``tpr_at_0.1%`` and ``tpr_at_1%`` in per cent, which
        are not known of fewer than a hundred others."""
        attacks = [result["privacy"]["attacks"].get(on, {}) for result in self.results if result.get("privacy")]
        found = [
            None if figure != "auc" and attack.get("others", FEWEST_OTHERS) < FEWEST_OTHERS else attack.get(figure)
            for attack in attacks
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
    def whole(self) -> bool:
        """Whether they were all training images, of which a result that knew no bytes had none."""
        return self.real and (not self.num_bytes or self.results[0].get("source_words") == FromData.words)

    @property
    def shown(self) -> str:
        return shown(self.results[0])


def settings_of(results: Sequence[dict[str, Any]]) -> list[Setting]:
    """Results by setting, in the order in which they came, those of one teacher beside one another; a sweep's only setting has the runs'
    name. A seed that was run twice says nothing of how much seeds vary: it is in a setting once."""
    teachers = list(dict.fromkeys(map(teacher_of, results)))
    titled = sorted(zip(titles(results), results, strict=True), key=lambda pair: teachers.index(teacher_of(pair[1])))
    grouped: dict[str, dict[int, dict[str, Any]]] = {}
    for title, result in titled:
        grouped.setdefault(title or result["name"], {}).setdefault(result["seed"], result)
    return [Setting(title, [*group.values()]) for title, group in grouped.items()]


def published(result: dict[str, Any]) -> float | None:
    """The accuracy in per cent that was published for the row that a run is; of a run that says otherwise than its row, or than its
    experiment's data, teacher or student, none was."""
    row = result.get("row") or {}
    return None if result.get("instead") or said_otherwise(row, result["overrides"]) else row.get("published")


def published_of_teacher(result: dict[str, Any]) -> float | None:
    """The accuracy in per cent that was published for a run's teacher; of another teacher, or of other data, none was."""
    return None if any(map(tells_teachers, result.get("instead") or ())) else result.get("published_teacher")


def shown(result: dict[str, Any]) -> str:
    """What the student saw, in a few words."""
    if result["match"] is not None:
        return f"reconstructed from {result['metadata']}, match: {result['match']}"
    return result.get("source_words", result["source"])


def teacher_accuracy(result: dict[str, Any]) -> float | None:
    """Measured here if there was a test set, else by the owner."""
    return result["teacher_accuracy_by_owner"] if result["teacher_accuracy"] is None else result["teacher_accuracy"]
