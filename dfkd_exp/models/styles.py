"""The styles of a layer's maps: how strong each channel is in an image as a whole, and how much it varies within it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfkd_exp.models.layers import Layer
from dfkd_exp.models.view import View

FLOOR = 1e-4
"""Added to each variance, so that a channel that is dead in an image has a logarithm."""


@dataclass(frozen=True)
class Styles(View):
    """Of each channel of a ``layer`` its mean over an image's locations, and ``log(variance + 1e-4) / 2`` there: first all means, then
    these logarithms of deviations.

    Source: Huang and Belongie (2017), "Arbitrary style transfer in real-time with adaptive instance normalization", whose styles of single
    images these are.
    """

    layer: Layer
    pools: ClassVar[bool] = False

    @property
    def basis(self) -> str:
        return "styles"

    @property
    def num_values(self) -> int:
        return 2 * self.layer.num_channels

    @property
    def per_image(self) -> int:
        return 1

    def gathered(self, values: Tensor) -> Tensor:
        return self.of(values, 1 + self.layer.channel_axis)[:, None]

    @staticmethod
    def of(values: Tensor, channel_dim: int, first: int = 1) -> Tensor:
        """``[…, 2 C]`` of values whose dimensions from ``first`` on are an image's, one of them the channels'."""
        space = [dim for dim in range(first, values.dim()) if dim != channel_dim]
        mean = values.mean(space, keepdim=True)
        variance = (values - mean).square().mean(space)
        return torch.cat([mean.squeeze(space), (variance + FLOOR).log() / 2], -1)
