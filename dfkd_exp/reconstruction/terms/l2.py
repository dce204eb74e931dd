"""Images that are dark where nothing asks for light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class L2(Term):
    """Mean squared pixel."""

    weight: float = 0.1
    """Weight of the term in the loss of a group."""

    def __call__(self, candidates: Candidates) -> Tensor:
        return candidates.pixels.square().mean(tuple(range(1, candidates.pixels.dim())))
