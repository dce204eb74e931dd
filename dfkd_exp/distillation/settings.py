"""How a student is taught, and what it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from dfkd_exp.settings import Settings
from dfkd_exp.training.augmentation import Affine
from dfkd_exp.training.optimizers import Adam
from dfkd_exp.training.schedules import Cosine
from dfkd_exp.training.settings import Training

TARGETS = ("soft", "labels")


@dataclass
class Distillation(Training):
    """The student's training. Source: Hinton, Vinyals and Dean (2015)."""

    flag: ClassVar[str] = "distillation"

    epochs: int = 30
    """Passes over the training images."""
    targets: str = "soft"
    """soft: the teacher's outputs at the temperature; labels: the images' own labels, for the baseline without a teacher."""
    temperature: float = 8.0
    """Temperature of the soft targets."""
    holdout: float = 0.05
    """Share of the images that the student is not trained on; its agreement with the teacher is measured there."""

    def __post_init__(self) -> None:
        self.choose(optimizer=partial(Adam, lr=3e-3), schedule=Cosine, augmentation=Affine)
        super().__post_init__()
        self.require_choice("targets", TARGETS)
        self.require(
            "label_smoothing",
            not self.label_smoothing or self.targets == "labels",
            f"0 unless {self.flag}.targets=labels",
        )
        self.require("temperature", self.temperature > 0, "positive")
        self.require("holdout", 0 <= self.holdout < 1, "at least 0 and below 1")


@dataclass
class Source(Settings):
    """What the student sees."""

    flag: ClassVar[str] = "source"
    needs_data: ClassVar[bool] = False


@dataclass
class FromReconstruction(Source):
    """Images reconstructed from the release: the data-free case."""


@dataclass
class FromData(Source):
    """The teacher's training images: what data-free distillation is measured against."""

    needs_data: ClassVar[bool] = True


@dataclass
class FromNoise(Source):
    """Gaussian noise, clamped to the range of pixels, labelled by the teacher."""

    images: int | None = None
    """How many; empty: as many as the reconstruction would make."""
    mean: float = 0.5
    """Mean of the pixels before they are clamped to [0, 1]."""
    std: float = 0.5
    """Their standard deviation."""

    def __post_init__(self) -> None:
        self.require("images", self.images is None or self.images >= 1, "at least 1, or empty")
        self.require("std", self.std > 0, "positive")


@dataclass
class SameBytes(Source):
    """As many whole training images, classes balanced, as fit into the metadata's bytes."""

    needs_data: ClassVar[bool] = True
