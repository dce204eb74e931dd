"""What a run will take, in time and on the disk: a step of each phase is timed before the first begins, and said where it comes to minutes.

It is rough. How fast images are made shows when the engine has been chosen, and who else uses the machine, nobody knows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfkd_exp import console
from dfkd_exp.config.tree import Config
from dfkd_exp.data.base import Outline

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.models.layers import Layer
    from dfkd_exp.reconstruction.pace import Pace

PHASES = {"images": "reconstruction"}
"""What a phase is called in the store, where people call it otherwise."""


@dataclass
class Forecast:
    """What is left of a run: ``seconds`` of its phases, by what people call them, and bytes that they leave on the disk, ``num_bytes``;
    ``plainly``: whether images are made as PyTorch makes them, for no engine was measured with such a teacher."""

    seconds: dict[str, float] = field(default_factory=dict)
    num_bytes: dict[str, int] = field(default_factory=dict)
    plainly: bool = False

    @property
    def total(self) -> float:
        """Seconds of all of it."""
        return sum(self.seconds.values())

    def text(self) -> str:
        """In words."""
        parts = {name: console.duration(seconds) for name, seconds in self.seconds.items() if seconds >= 1}
        if self.plainly and "images" in parts:
            parts["images"] += ", less if an engine is faster"
        took = ", ".join(f"{name} {took}" for name, took in parts.items())
        disk = console.size(sum(self.num_bytes.values()))
        return f"about {console.duration(self.total)} in all{f': {took}' if took else ''}; {disk} of disk"


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

    found, seconds, num_bytes, shadow, precision = (
        Forecast(),
        dict[str, float](),
        dict[str, int](),
        0.0,
        config.trainer.precision,
    )
    if outline and config.pipeline != "from_release":
        if "teacher" not in done and not config.teacher.trained:
            steps = config.training.num_steps(outline.num_images)
            seconds["teacher"] = steps * pace.of_training(teacher, config.training, precision)
        if config.metadata.needs_images:
            collecting = outline.num_images / pace.images_per_second(teacher, layers)
            shadow = collecting / 2
            seconds["metadata"] = collecting + sum(map(pace.of_basis, config.metadata.basis_sizes(layers)))
        num_bytes["teacher"] = 2 * _num_bytes(teacher)  # and once more in the release, as the metadata
        num_bytes["metadata"] = 2 * pace.bytes_of(config.metadata, teacher)
    if student is not None and ("student" not in done or config.shadow_students):
        source = config.source
        made = config.reconstruction.images_per_class * pace.num_classes
        steps = config.distillation.num_steps(source.num_images(made, outline))
        answering = None if config.distillation.targets == "labels" else teacher
        each = steps * pace.of_training(student, config.distillation, precision, answering)
        num_bytes["student"] = _num_bytes(student) * (
            1 + min(config.distillation.snapshots, config.distillation.epochs)
        )
        if image_steps := source.image_steps(made * config.reconstruction.steps, steps):
            known = None if source.has_student else pace.of_engine(teacher, layers)
            rate = known or pace.images_per_second(teacher, layers, config.engine.precision)
            making = config.optimizer.evaluations * image_steps / rate
            if source.has_student:
                each += making
            else:
                found.plainly = known is None
                seconds["images"] = making
                num_bytes["images"] = made * math.prod(pace.inputs.shape) * STORED.itemsize
        seconds["student"] = each
        if config.shadow_students:
            shadow += each + seconds.get("images", 0.0)
            num_bytes["shadows"] = config.shadows * (num_bytes["student"] + num_bytes.get("images", 0))
    seconds["shadows"] = config.shadows * shadow
    left = {name for name in (*seconds, *num_bytes) if PHASES.get(name, name) not in done}
    found.seconds = {name: took for name, took in seconds.items() if took and name in left}
    found.num_bytes = {name: size for name, size in num_bytes.items() if size and name in left}
    return found


def _num_bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in network.state_dict().values())
