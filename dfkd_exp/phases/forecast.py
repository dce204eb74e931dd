"""What a run will take, in time and on the disk: a step of each phase is timed before the first begins, and said where it comes to minutes.

It is rough. How fast images are made shows when the engine has been chosen, and who else uses the machine, nobody knows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
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

SEED = ("seed",)
WORTH_SAYING = 120.0
"""Seconds of a run, and of the sweep that it is of, below which nothing is said."""
PHASES = {"images": "reconstruction"}
"""What a phase is called in the store, where people call it otherwise."""


Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """The jobs of a sweep that are left, by what they are told beside their seed: how many there are of each; and how many ``teachers`` all
    of them have together."""

    jobs: dict[Overrides, int] = field(default_factory=dict)
    teachers: int = 1

    @classmethod
    def of(cls, jobs: Sequence[Sequence[str]]) -> Sweep:
        """That of the overrides of those jobs; who trains another teacher follows from them."""
        teachers = {tuple(text for text in job if is_of(text, SEED) or tells_teachers(text)) for job in jobs}
        return cls(Counter(map(without_seed, jobs)), max(1, len(teachers)))

    def __len__(self) -> int:
        return sum(self.jobs.values())


def without_seed(job: Sequence[str]) -> Overrides:
    """What a job is told beside its seed."""
    return tuple(text for text in job if not is_of(text, SEED))


@dataclass
class Forecast:
    """``seconds`` of each phase that is left, by what people call it; bytes on the disk: ``of_teacher``, and ``num_bytes`` of metadata,
    images and students; ``plainly``: whether images are made as PyTorch makes them, for no engine was measured with such a teacher."""

    seconds: dict[str, float] = field(default_factory=dict)
    num_bytes: int = 0
    of_teacher: int = 0
    plainly: bool = False

    @property
    def total(self) -> float:
        """Seconds of all of it."""
        return sum(self.seconds.values())

    @property
    def without_teacher(self) -> float:
        """Seconds of all but the teacher."""
        return self.total - self.seconds.get("teacher", 0.0)

    def text(self) -> str:
        """In words."""
        parts = {name: console.duration(seconds) for name, seconds in self.seconds.items() if seconds >= 1}
        if self.plainly and "images" in parts:
            parts["images"] += ", less if an engine is faster"
        took = ", ".join(f"{name} {took}" for name, took in parts.items())
        return f"about {console.duration(self.total)} in all: {took}; {console.size(self.num_bytes + self.of_teacher)} of disk"


def of_sweep(this: Forecast, sweep: Sweep, kinds: Mapping[Overrides, Forecast], asking: Overrides) -> str:
    """In words, what all jobs of the ``sweep`` that are left take: ``this`` for the one that is ``asking``, and for each other what jobs of
    its kind take from their beginning, ``kinds``."""
    others = {job: count - (job == asking) for job, count in sweep.jobs.items()}
    one = kinds[asking]
    seconds = this.total + (sweep.teachers - 1) * one.seconds.get("teacher", 0.0)
    num_bytes = this.num_bytes + sweep.teachers * one.of_teacher
    for job, count in others.items():
        seconds += count * kinds[job].without_teacher
        num_bytes += count * kinds[job].num_bytes
    return (
        f"The sweep's {len(sweep):,} jobs that are left: about {console.duration(seconds)} one after another, and "
        f"{console.size(num_bytes)} of disk"
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
            collecting = outline.num_images / pace.images_per_second(teacher, layers)
            shadow = collecting / 2
            seconds["metadata"] = collecting + sum(map(pace.of_basis, config.metadata.basis_sizes(layers)))
        found.of_teacher = 2 * _num_bytes(teacher)  # and once more in the release
        if "metadata" not in done and config.metadata.sized_beforehand:
            found.num_bytes = 2 * config.metadata.num_bytes(teacher, pace.inputs, pace.num_classes)
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
