"""Images whose neighbouring pixels are alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class TotalVariation(Term):
    """Mean absolute difference of neighbouring pixels, down plus across."""

    weight: float = 0.1
    """Weight of the term in the loss of a group."""

    def __call__(self, candidates: Candidates) -> Tensor:
        pixels = candidates.pixels
        total = pixels.new_zeros(len(pixels))
        for axis in (-2, -1):
            if pixels.shape[axis] > 1:
                total = total + pixels.diff(dim=axis).abs().mean((1, 2, 3))
        return total
