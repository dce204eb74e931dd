"""Images whose neighbouring pixels are alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class TotalVariation(Term):
    """Mean absolute difference of neighbouring pixels, summed over the directions of space; zero for tables, which have none."""

    weight: float = 0.1
    """Weight of the term in the loss of a group."""

    def __call__(self, candidates: Candidates) -> Tensor:
        pixels = candidates.pixels
        total, of_each = pixels.new_zeros(len(pixels)), tuple(range(1, pixels.dim()))
        for axis in range(2, pixels.dim()):
            if pixels.shape[axis] > 1:
                total = total + pixels.diff(dim=axis).abs().mean(of_each)
        return total
