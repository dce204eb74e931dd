"""How a student is taught, and what it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from dfkd_exp.training.augmentation import Auto
from dfkd_exp.training.optimizers import Adam
from dfkd_exp.training.schedules import Cosine
from dfkd_exp.training.settings import Training

TARGETS = ("soft", "labels")
LOSSES = ("soft", "l1")


@dataclass
class Distillation(Training):
    """The student's training. Source: Hinton, Vinyals and Dean (2015)."""

    flag: ClassVar[str] = "distillation"

    epochs: int = 30
    """Passes over the training images."""
    targets: str = "soft"
    """soft: the teacher's outputs; labels: the images' own labels, for the baseline without a teacher."""
    loss: str = "soft"
    """soft: cross-entropy with the teacher's probabilities at the temperature; l1: the logits' mean absolute difference (DFAD)."""
    temperature: float = 8.0
    """Temperature of the soft targets."""
    attention: float = 0.0
    """Weight of the distance between teacher's and student's attention maps, in the last layers of each size that both have (ZSKT 250)."""
    holdout: float = 0.05
    """Share of the images that the student is not trained on; its agreement with the teacher is measured there."""
    snapshots: int = 0
    """How many times over the training a run keeps the student's weights, evenly spread over the epochs, the last included, at most once
    an epoch: their true accuracy is measured when it is over."""

    def __post_init__(self) -> None:
        self.choose(optimizer=partial(Adam, lr=3e-3), schedule=Cosine, augmentation=Auto)
        super().__post_init__()
        self.require_choice("targets", TARGETS)
        self.require(
            "label_smoothing",
            not self.label_smoothing or self.targets == "labels",
            f"0 unless {self.flag}.targets=labels",
        )
        self.require_choice("loss", LOSSES)
        self.require("attention", self.attention >= 0, "at least 0")
        if self.targets == "labels":
            self.require("loss", self.loss == "soft", f"soft with {self.flag}.targets=labels, which has no teacher")
            self.require("attention", not self.attention, f"0 with {self.flag}.targets=labels, which has no teacher")
        self.require("temperature", self.temperature > 0, "positive")
        self.require("holdout", 0 <= self.holdout < 1, "at least 0 and below 1")
        self.require("snapshots", self.snapshots >= 0, "at least 0")

    @property
    def by_labels(self) -> bool:
        return self.targets == "labels"
