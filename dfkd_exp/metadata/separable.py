"""A feature map's Gaussian, space and channel apart: one covariance over channels and one over locations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import ClassVar

import torch
from torch import Tensor

from dfkd_exp.metadata.covariance import covariance_factor, unpack_symmetric


@dataclass
class Separable:
    """``mean[K, C * L]`` of C channels and L locations; ``Cov[(c, l), (d, m)] = S[c, d] Q[l, m]``: a matrix normal.

    ``channels[K, C(C+1)/2]``: S, the mean over locations of the channels' covariance, packed as in `Full`. ``factor[K, L, R]`` and
    ``variance[K, L]``: ``Q = factor factor^T + diag(variance)``, of mean diagonal 1.
    Source: METHOD, "spatial"; Dutilleul (1999) for the matrix normal.
    """

    form: ClassVar[str] = "separable"
    mean: Tensor
    channels: Tensor
    factor: Tensor
    variance: Tensor

    @property
    def num_channels(self) -> int:
        return (isqrt(8 * self.channels.shape[1] + 1) - 1) // 2

    def std(self) -> Tensor:
        """Standard deviations ``[K, C * L]``."""
        order = torch.arange(1, self.num_channels + 1, device=self.channels.device)
        by_channel = self.channels[:, order * (order + 1) // 2 - 1].clamp_min(0)
        by_location = self.factor.square().sum(2) + self.variance
        return (by_channel[:, :, None] * by_location[:, None]).sqrt().flatten(1)

    @cached_property
    def _factors(self) -> dict[int, Tensor]:
        return {}

    def _channel_factor(self, label: int) -> Tensor:
        if label not in self._factors:
            self._factors[label] = covariance_factor(unpack_symmetric(self.channels[label], self.num_channels))
        return self._factors[label]

    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """``count`` draws of class ``label``: ``[count, C * L]``, on the statistics' device, from a CPU generator."""
        locations, rank = self.factor.shape[1:]
        shared = torch.randn(count, self.num_channels, rank, generator=generator).to(self.mean)
        own = torch.randn(count, self.num_channels, locations, generator=generator).to(self.mean)
        rows = shared @ self.factor[label].T + own * self.variance[label].sqrt()
        return self.mean[label] + (self._channel_factor(label) @ rows).flatten(1)

    def shapes(self, classes: int, units: int) -> dict[str, list[int]]:
        """The shapes that its tensors must have for ``classes`` and ``units``."""
        locations = units // self.num_channels
        return {
            "mean": [classes, units],
            "channels": [classes, self.num_channels * (self.num_channels + 1) // 2],
            "factor": [classes, locations, self.factor.shape[2]],
            "variance": [classes, locations],
        }

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name."""
        return {"mean": self.mean, "channels": self.channels, "factor": self.factor, "variance": self.variance}
