"""What a run will take, in time and on the disk: a step of each phase is timed before the first begins, and said where it comes to minutes.

It is rough. How fast images are made shows when the engine has been chosen, and who else uses the machine, nobody knows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfkd_exp import console
from dfkd_exp.config.tree import Config

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.models.layers import Layer
    from dfkd_exp.reconstruction.pace import Pace

WORTH_SAYING = 120.0
"""Seconds of a run below which nothing is said."""


@dataclass
class Forecast:
    """``seconds`` of each phase, by what people call it, and ``num_bytes`` that a run leaves on the disk; ``plainly``: whether the images'
    are those of PyTorch as it is, for no engine has been measured with such a teacher."""

    seconds: dict[str, float] = field(default_factory=dict)
    num_bytes: int = 0
    plainly: bool = False

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def text(self, jobs: int = 1) -> str:
        """In words; ``jobs``: how many of a sweep's are left, this one among them, which all have this one's teacher."""
        parts = {name: console.duration(seconds) for name, seconds in self.seconds.items() if seconds >= 1}
        if self.plainly and "images" in parts:
            parts["images"] += " at most, an engine may be faster"
        said = (
            f"about {console.duration(self.total)} in all: {', '.join(f'{name} {took}' for name, took in parts.items())}; "
            f"{console.size(self.num_bytes)} of disk"
        )
        if jobs == 1:
            return said
        others = (jobs - 1) * (self.total - self.seconds.get("teacher", 0.0))
        return (
            f"{said}. The sweep's {jobs:,} jobs that are left, if they are alike, about {console.duration(self.total + others)} one after "
            f"another and {console.size(jobs * self.num_bytes)}"
        )


def forecast(
    config: Config,
    pace: Pace,
    done: Sequence[str],
    teacher: nn.Module,
    student: nn.Module | None,
    layers: Sequence[Layer],
    num_images: int | None,
) -> Forecast:
    """What is left of a run of which the phases ``done`` are. ``student``: None where the run ends with the release; ``num_images``: of the
    owner's training data, if there is some."""
    from dfkd_exp.reconstruction.shards import STORED

    found, precision = Forecast(), config.trainer.precision
    owners = num_images if config.pipeline != "from_release" else None
    if owners and "teacher" not in done and not config.teacher.trained:
        steps = config.training.num_steps(owners)
        found.seconds["teacher"] = steps * pace.of_training(teacher, config.training, precision)
    if owners and (config.metadata.needs_images or config.shadows):
        collecting = owners / pace.images_per_second(teacher, layers)
        if "metadata" not in done:
            found.seconds["metadata"] = collecting
        if config.shadows:
            found.seconds["shadows"] = config.shadows * collecting / 2
    if student is None or "student" in done:
        return found
    made = config.reconstruction.images_per_class * pace.num_classes
    shown = config.source.num_images(made, num_images)
    steps = config.distillation.num_steps(shown)
    image_steps = config.source.image_steps(made * config.reconstruction.steps, steps)
    if image_steps and "reconstruction" not in done:
        rate = None if config.source.has_student else pace.of_engine(teacher)
        found.plainly = rate is None and not config.source.has_student
        rate = rate or pace.images_per_second(teacher, layers, config.engine.precision)
        found.seconds["images"] = image_steps / rate
    answering = None if config.distillation.targets == "labels" else teacher
    found.seconds["student"] = steps * pace.of_training(student, config.distillation, precision, answering)
    if config.shadow_students:
        found.seconds["shadows"] += config.shadows * (found.seconds["student"] + found.seconds.get("images", 0.0))
    weights = sum(tensor.nbytes for tensor in student.state_dict().values())
    kept = made * math.prod(pace.inputs.shape) * STORED.itemsize if image_steps and not config.source.has_student else 0
    found.num_bytes = kept + weights * (1 + min(config.distillation.snapshots, config.distillation.epochs))
    return found
