"""Images that excite the teacher's features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Activation(Term):
    """The negative mean of the features' sizes, features being what the teacher's last layer takes in.

    Source: Chen et al. (2019), eq. 5, DAFL, whose sum over the features is a mean here, as in its published figures.
    """

    of_features: ClassVar[bool] = True

    weight: float = 0.1
    """Weight of the term in the loss of a group (DAFL: 0.1 for MNIST, 0.01 for CIFAR-10)."""

    def __call__(self, candidates: Candidates) -> Tensor:
        assert candidates.features is not None
        return -candidates.features.abs().mean(1)
