"""Images whose neighbouring pixels are alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor

NORMS = ("l1", "l2")


@dataclass
class TotalVariation(Term):
    """Differences of an image's neighbouring pixels, their mean size (``l1``) or root mean square (``l2``), summed over the directions of
    space; zero for tables, which have none.

    Source: Yin et al. (2020), eq. 2, DeepInversion, whose total variation is ``l2`` with ``diagonals``. Differs: it is the mean of each
    image's own, so that a weight means the same for images and batches of any size. Theirs is the Euclidean norm over the B images of a
    batch, of D differences each, of inputs that were divided by a deviation s: their weight w is w sqrt(B D) / s here. 2.5e-5 on batches
    of 256 images of 3x32x32 with CIFAR-10's s = 0.2, their published settings, is about 0.11.
    """

    weight: float = 0.1
    """Weight of the term in the loss of a group."""
    norm: str = "l1"
    """l1: mean size of the differences; l2: their root mean square (DeepInversion)."""
    diagonals: bool = False
    """Whether pixels that touch at a corner are neighbours too: four directions of an image, not two (DeepInversion)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("norm", NORMS)

    def __call__(self, candidates: Candidates) -> Tensor:
        pixels = candidates.pixels
        total = pixels.new_zeros(len(pixels))
        for difference in self._differences(pixels):
            if self.norm == "l1":
                total = total + difference.abs().mean(tuple(range(1, pixels.dim())))
            else:  # not the root of a mean, whose slope is infinite where all pixels are alike
                total = total + difference.flatten(1).norm(dim=1) / difference[0].numel() ** 0.5
        return total

    def _differences(self, pixels: Tensor) -> Iterator[Tensor]:
        """Between neighbours, direction by direction: ``[M, C, …]``, of an axis as long as before less one."""
        axes = [axis for axis in range(2, pixels.dim()) if pixels.shape[axis] > 1]
        for axis in axes:
            yield pixels.diff(dim=axis)
        for one, other in itertools.combinations(axes, 2) if self.diagonals else ():
            above, below = pixels.narrow(one, 0, pixels.shape[one] - 1), pixels.narrow(one, 1, pixels.shape[one] - 1)
            length = pixels.shape[other] - 1
            for start in (0, 1):
                yield below.narrow(other, 1 - start, length) - above.narrow(other, start, length)
