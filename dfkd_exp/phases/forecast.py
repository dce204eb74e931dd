"""What a run will take, in time and on the disk: a step of each phase is timed before the first begins, and said where it comes to minutes.

It is rough. How fast images are made shows when the engine has been chosen, and who else uses the machine, nobody knows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfkd_exp import console
from dfkd_exp.config.overrides import is_of, tells_teachers
from dfkd_exp.config.tree import Config
from dfkd_exp.data.base import Outline

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.models.layers import Layer
    from dfkd_exp.reconstruction.pace import Pace

WORTH_SAYING = 120.0
"""Seconds of a run, and of the sweep that it is of, below which nothing is said."""
PHASES = {"images": "reconstruction"}
"""What a phase is called in the store, where people call it otherwise."""


@dataclass(frozen=True)
class Sweep:
    """How many jobs of a sweep are left, the one that asks among them, and how many ``teachers`` they have together."""

    jobs: int = 1
    teachers: int = 1

    @classmethod
    def of(cls, jobs: Sequence[Sequence[str]]) -> Sweep:
        """That of the overrides of those jobs; who trains another teacher follows from them."""
        teachers = {tuple(text for text in job if is_of(text, ("seed",)) or tells_teachers(text)) for job in jobs}
        return cls(max(1, len(jobs)), max(1, len(teachers)))


@dataclass
class Forecast:
    """``seconds`` of each phase that is left, by what people call it, and ``num_bytes`` that networks and images take on the
    disk; ``plainly``: whether images are made as PyTorch makes them, for no engine has been measured with such a teacher."""

    seconds: dict[str, float] = field(default_factory=dict)
    num_bytes: int = 0
    plainly: bool = False

    def total(self, sweep: Sweep = Sweep()) -> float:
        """Seconds of all of it, and of the rest of a ``sweep`` whose jobs are all like it."""
        teacher = self.seconds.get("teacher", 0.0)
        return sweep.jobs * (sum(self.seconds.values()) - teacher) + sweep.teachers * teacher

    def text(self, sweep: Sweep = Sweep()) -> str:
        """In words."""
        parts = {name: console.duration(seconds) for name, seconds in self.seconds.items() if seconds >= 1}
        if self.plainly and "images" in parts:
            parts["images"] += ", less if an engine is faster"
        said = f"about {console.duration(self.total())} in all: {', '.join(f'{name} {took}' for name, took in parts.items())}"
        if sweep.jobs == 1:
            return f"{said}; {console.size(self.num_bytes)} of disk"
        return (
            f"{said}; {console.size(self.num_bytes)} of disk. The sweep's {sweep.jobs:,} jobs that are left, if they are alike, about "
            f"{console.duration(self.total(sweep))} one after another and {console.size(sweep.jobs * self.num_bytes)}"
        )


def forecast(
    config: Config,
    pace: Pace,
    done: Collection[str],
    teacher: nn.Module,
    student: nn.Module | None,
    layers: Sequence[Layer],
    outline: Outline | None,
) -> Forecast:
    """What is left of a run of which the phases ``done`` are. ``student``: None where the run ends with the release; ``outline``: of the
    owner's data, if there is some."""
    from dfkd_exp.reconstruction.loop import STORED

    found, seconds, shadow, precision = Forecast(), {}, 0.0, config.trainer.precision
    if outline and config.pipeline != "from_release":
        if "teacher" not in done and not config.teacher.trained:
            steps = config.training.num_steps(outline.num_images)
            seconds["teacher"] = steps * pace.of_training(teacher, config.training, precision)
        if config.metadata.needs_images:
            seconds["metadata"] = outline.num_images / pace.images_per_second(teacher, layers)
            shadow = seconds["metadata"] / 2
        found.num_bytes = 2 * _num_bytes(teacher)
    if student is not None and ("student" not in done or config.shadow_students):
        source = config.source
        made = config.reconstruction.images_per_class * pace.num_classes
        steps = config.distillation.num_steps(source.num_images(made, outline))
        answering = None if config.distillation.targets == "labels" else teacher
        each = steps * pace.of_training(student, config.distillation, precision, answering)
        num_bytes = _num_bytes(student) * (1 + min(config.distillation.snapshots, config.distillation.epochs))
        if image_steps := source.image_steps(made * config.reconstruction.steps, steps):
            known = None if source.has_student else pace.of_engine(teacher, layers)
            rate = known or pace.images_per_second(teacher, layers, config.engine.precision)
            making = config.optimizer.evaluations * image_steps / rate
            if source.has_student:
                each += making
            else:
                found.plainly = known is None
                seconds["images"] = making
                num_bytes += made * math.prod(pace.inputs.shape) * STORED.itemsize
        seconds["student"] = each
        if config.shadow_students:
            shadow += each + seconds.get("images", 0.0)
        found.num_bytes += num_bytes * (1 + config.shadows * config.shadow_students)
    seconds["shadows"] = config.shadows * shadow
    found.seconds = {name: took for name, took in seconds.items() if took and PHASES.get(name, name) not in done}
    return found


def _num_bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in network.state_dict().values())
