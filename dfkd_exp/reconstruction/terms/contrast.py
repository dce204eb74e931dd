"""Images that are unlike each other, and unlike those that were made before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import Shape, described
from dfkd_exp.reconstruction.terms.term import Term

if TYPE_CHECKING:
    from dfkd_exp.reconstruction.learner import Learner


@dataclass
class Contrast(Term):
    """How hard it is to tell an image, by a random part of it, from all others of its batch and from those of earlier ones: InfoNCE, by the
    cosines between what a learned head makes of the teacher's features, before its last layer, of the part and of the images.

    Source: Fang et al. (2021), CMI. Differs: features are those before the last layer, and not the means of all that BatchNorm
    layers take in; the whole image is looked at as it is; the head learns from the new images alone, and not from those remembered too.
    """

    learns: ClassVar[bool] = True
    of_features: ClassVar[bool] = True

    weight: float = 0.8
    """Weight of the term in the loss of a group (CMI: 0.8)."""
    temperature: float = 0.1
    """By which the cosines are divided (CMI: 0.1 for CIFAR-10, 0.2 for CIFAR-100)."""
    bank: int = 40_960
    """Images of earlier batches whose features are remembered; the oldest go first (CMI: 40,960)."""
    negatives: int = 4096
    """Of these, how many are drawn at each step, to be told from (CMI: 4,096)."""
    dimensions: int = 128
    """Numbers that the head, of two dense layers, makes of the features (CMI: 128)."""
    smallest_crop: float = 0.25
    """A part has at least this share of an image's space (CMI: 0.25); half of the parts are mirrored."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("temperature", self.temperature > 0, "positive")
        for name in ("bank", "negatives"):
            self.require(name, getattr(self, name) >= 0, "at least 0")
        self.require("dimensions", self.dimensions >= 1, "at least 1")
        self.require("smallest_crop", 0 < self.smallest_crop <= 1, "above 0 and at most 1")

    def start(self, shape: Shape, num_features: int, seed: int) -> Learner:
        from dfkd_exp.reconstruction.contrast import ContrastLearner

        if len(shape) == 1:
            raise DfkdError(
                f"{self.flag}: Contrast looks at parts of what has space, and the data's are {described(shape)}; leave it out"
            )
        return ContrastLearner(self, num_features, seed)
