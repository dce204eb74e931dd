"""Images of which the teacher is sure, whatever it takes them for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Confidence(Term):
    """Cross-entropy of the teacher's logits with the class that they are largest for. Source: Chen et al. (2019), eq. 4, DAFL."""

    instead_of_labels: ClassVar[bool] = True

    def __call__(self, candidates: Candidates) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(candidates.logits, candidates.logits.argmax(1), reduction="none")
