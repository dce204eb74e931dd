"""Groups of images in which all classes are about equally many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ClassEntropy(Term):
    """The negative entropy, in nats, of the teacher's probabilities, averaged over a group. For groups of several classes.

    Source: Chen et al. (2019), eq. 6, DAFL.
    """

    of_groups: ClassVar[bool] = True

    weight: float = 5.0
    """Weight of the term in the loss of a group (DAFL: 5 for MNIST and CIFAR-10)."""

    def __call__(self, candidates: Candidates) -> Tensor:
        logs = candidates.by_group(candidates.logits.log_softmax(1))
        log_mean = logs.logsumexp(1) - math.log(logs.shape[1])
        return (log_mean.exp() * log_mean).sum(1)
