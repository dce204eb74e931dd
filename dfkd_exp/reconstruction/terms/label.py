"""Images that the teacher takes for what they are made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Label(Term):
    """Cross-entropy of the teacher's logits with an image's class. Source: Yin et al. (2020), eq. 1."""

    of_labels: ClassVar[bool] = True

    def __call__(self, candidates: Candidates) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(candidates.logits, candidates.labels, reduction="none")
