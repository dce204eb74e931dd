"""How a network is trained: the teacher on labels, the student on the teacher's soft targets; and what it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dfkd_exp.models.settings import Network
from dfkd_exp.settings import Settings

SCHEDULES = ("constant", "cosine")
TARGETS = ("soft", "labels")


@dataclass
class Training(Settings):
    """Adam for a fixed number of epochs; the network after the last one is the result."""

    epochs: int = 10
    """Passes over the training images."""
    batch_size: int = 64
    """Images per step."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    weight_decay: float = 0.0
    """L2 penalty of Adam."""
    schedule: str = "constant"
    """Learning rate over the epochs: constant, or cosine (falling to zero, step by step)."""

    def check_training(self) -> None:
        for name in ("epochs", "batch_size"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        self.require("lr", self.lr > 0, "positive")
        self.require("weight_decay", self.weight_decay >= 0, "at least 0")
        self.require_choice("schedule", SCHEDULES)

    def num_steps(self, num_images: int) -> int:
        """Of the whole training; an epoch's last batch may be smaller than the others."""
        return self.epochs * -(-num_images // self.batch_size)


@dataclass
class Teacher(Training, Network):
    """The teacher: its network, and how it is trained on the data."""

    flag: ClassVar[str] = "teacher"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_training()


@dataclass
class Student(Network):
    """The student's network. ``distillation`` says how it is trained."""

    flag: ClassVar[str] = "student"


@dataclass
class Distillation(Training):
    """The student's training. Source: Hinton, Vinyals and Dean (2015)."""

    flag: ClassVar[str] = "distillation"

    epochs: int = 30
    """Passes over the training images."""
    lr: float = 3e-3
    """Learning rate of Adam."""
    schedule: str = "cosine"
    """Learning rate over the epochs: constant, or cosine (falling to zero, step by step)."""
    targets: str = "soft"
    """soft: the teacher's outputs at the temperature; labels: the images' own labels, for the baseline without a teacher."""
    temperature: float = 8.0
    """Temperature of the soft targets."""
    augment: bool = True
    """Small random affine maps, new for every batch; the teacher then answers for the image as it is shown."""
    augment_degrees: float = 10.0
    """Largest rotation."""
    augment_shift: float = 0.08
    """Largest shift, as a share of the image's size."""
    augment_scale: float = 0.1
    """Largest change of size, as a share."""
    holdout: float = 0.05
    """Share of the images that the student is not trained on; its agreement with the teacher is measured there."""

    def __post_init__(self) -> None:
        self.check_training()
        self.require_choice("targets", TARGETS)
        self.require("temperature", self.temperature > 0, "positive")
        self.require("holdout", 0 <= self.holdout < 1, "at least 0 and below 1")
        for name in ("augment_degrees", "augment_shift", "augment_scale"):
            self.require(name, getattr(self, name) >= 0, "at least 0")
