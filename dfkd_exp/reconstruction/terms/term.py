"""The contract of an objective term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """Images on their way: their ``pixels[M, *shape]`` in [0, 1], the teacher's ``logits[M, K]`` for them, not divided by anything, and
    the classes ``labels[M]`` that they are made for; M images, those of a group side by side."""

    pixels: Tensor
    logits: Tensor
    labels: Tensor


@dataclass
class Term(Settings):
    """A term of the objective, added to each group's loss with its weight."""

    flag: ClassVar[str] = "terms"
    of_labels: ClassVar[bool] = False
    """Whether it makes images for their classes."""

    weight: float = 1.0
    """Weight of the term in the loss of a group."""

    def __post_init__(self) -> None:
        self.require("weight", self.weight >= 0, "at least 0")

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term for each image, ``[M]``; a group's is the mean over its images."""
        raise NotImplementedError
