"""The styles of a layer's maps: how strong each channel is in an image as a whole, and how much it varies within it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from dfkd_exp.models.layers import Layer
from dfkd_exp.models.regions import Regions
from dfkd_exp.models.view import View

FLOOR = 1e-4
"""Added to each variance, so that a channel that is dead in an image has a logarithm."""


@dataclass(frozen=True)
class Styles(View):
    """Of each region of a ``layer``'s maps, with a grid of 1 each channel, its mean over the locations in an image, and
    ``log(variance + 1e-4) / 2`` there: first all means, then these logarithms of deviations.

    Source: Huang and Belongie (2017), "Arbitrary style transfer in real-time with adaptive instance normalization", whose styles of single
    images these are.
    """

    layer: Layer
    grid: int = 1
    pools: ClassVar[bool] = False
    kinds: ClassVar[int] = 2

    @property
    def basis(self) -> str:
        return "styles"

    @cached_property
    def windows(self) -> Regions:
        return Regions(self.layer, self.grid)

    @property
    def num_values(self) -> int:
        return 2 * self.windows.num_values

    @property
    def per_image(self) -> int:
        return 1

    def gathered(self, values: Tensor) -> Tensor:
        of_windows = self.windows.gathered(values)
        mean = of_windows.mean(1, keepdim=True)
        return self.of_windows(mean, (of_windows - mean).square().mean(1, keepdim=True))

    def of_windows(self, mean: Tensor, variance: Tensor) -> Tensor:
        return torch.cat([mean, (variance + FLOOR).log() / 2], -1)
