"""The power spectrum of a layer's maps: how strong each frequency is in each channel, wherever things are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfkd_exp.models.layers import Layer
from dfkd_exp.models.view import View

FLOOR = 1e-5
"""Added to the mean square of each frequency: about what rounding pixels of unit deviation to eight bits leaves of noise."""


@dataclass(frozen=True)
class Spectrum(View):
    """``log(|F_f|^2 / P + 1e-5)`` of each channel of a ``layer``: its discrete Fourier transform over all P locations, at the frequencies
    that tell a real map's from one another."""

    layer: Layer
    pools: ClassVar[bool] = False

    @property
    def basis(self) -> str:
        return "spectrum"

    @property
    def _space(self) -> list[int]:
        return [axis for axis in range(len(self.layer.shape)) if axis != self.layer.channel_axis]

    @property
    def shape(self) -> tuple[int, ...]:
        """The layer's own, the last of its lengths L replaced by L // 2 + 1."""
        *_, last = self._space
        return tuple(length // 2 + 1 if axis == last else length for axis, length in enumerate(self.layer.shape))

    @property
    def num_values(self) -> int:
        return math.prod(self.shape)

    @property
    def per_image(self) -> int:
        return 1

    def gathered(self, values: Tensor) -> Tensor:
        found = torch.fft.rfftn(values, dim=[1 + axis for axis in self._space], norm="ortho")
        power = found.real.square() + found.imag.square()
        return (power + FLOOR).log().flatten(1)[:, None]
