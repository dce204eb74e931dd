"""A feature map's Gaussian, space and channel apart: one covariance over channels and one over locations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import ClassVar

import torch
from torch import Tensor

from dfkd_exp.metadata.covariance import Full, GaussianSummary, LowRank, require_variances
from dfkd_exp.models.layers import Layer


@dataclass
class Separable(GaussianSummary):
    """``mean[R, C * L]`` of C channels and L locations; ``Cov[(c, l), (d, m)] = S[c, d] Q[l, m]``: a matrix normal.

    ``channels[R, C(C+1)/2]``: S, the mean over locations of the channels' covariance, packed as in `Full`. ``factor[R, L, P]`` and
    ``variance[R, L]``: ``Q = factor factor^T + diag(variance)``, of mean diagonal 1.
    Source: docs/method.md, "Metadata"; Dutilleul (1999) for the matrix normal.
    """

    form: ClassVar[str] = "separable"
    bases: ClassVar[tuple[str, ...]] = ("units",)
    channels: Tensor
    factor: Tensor
    variance: Tensor

    @property
    def num_channels(self) -> int:
        return (isqrt(8 * self.channels.shape[1] + 1) - 1) // 2

    @cached_property
    def _by_channel(self) -> Full:
        return Full(self.channels.new_zeros(len(self.mean), self.num_channels), self.channels)

    @cached_property
    def _by_location(self) -> LowRank:
        return LowRank(torch.zeros_like(self.variance), self.factor, self.variance)

    def std(self) -> Tensor:
        """Standard deviations ``[R, C * L]``."""
        return (self._by_channel.std()[:, :, None] * self._by_location.std()[:, None]).flatten(1)

    def covariances(self, row: int, one: Tensor, other: Tensor) -> Tensor:
        locations = self.variance.shape[1]
        by_location = self._by_location.covariances(row, one % locations, other % locations)
        return self._by_channel.covariances(row, one // locations, other // locations) * by_location

    def sample(self, row: int, count: int, generator: torch.Generator) -> Tensor:
        """``count`` draws of one row: ``[count, C * L]``, on the statistics' device, from a CPU generator."""
        locations, rank = self.factor.shape[1:]
        shared = torch.randn(count, self.num_channels, rank, generator=generator).to(self.mean)
        own = torch.randn(count, self.num_channels, locations, generator=generator).to(self.mean)
        rows = shared @ self.factor[row].T + own * self.variance[row].sqrt()
        return self.mean[row] + (self._by_channel.factor(row) @ rows).flatten(1)

    def leading(self, row: int, part: slice, count: int) -> tuple[Tensor, Tensor]:
        """Of all its values: products of the channels' directions and the locations'."""
        by_channel, channel_vectors = self._by_channel.leading(row, slice(None), count)
        by_location, location_vectors = self._by_location.leading(row, slice(None), count)
        products = torch.outer(by_channel, by_location).flatten()
        largest = products.argsort(descending=True, stable=True)[:count]
        one, other = largest // len(by_location), largest % len(by_location)
        vectors = (channel_vectors[one][:, :, None] * location_vectors[other][:, None]).flatten(1)
        return products[largest], vectors

    def shapes(self, rows: int, coefficients: int) -> dict[str, list[int]]:
        locations = coefficients // self.num_channels
        return {
            "mean": [rows, coefficients],
            "channels": [rows, self.num_channels * (self.num_channels + 1) // 2],
            "factor": [rows, locations, self.factor.shape[2]],
            "variance": [rows, locations],
        }

    def check(self, layers: Sequence[Layer]) -> None:
        if len(layers) > 1 or len(layers[0].shape) != 3 or layers[0].channel_axis != 0:
            raise ValueError("a separable covariance of what is not one layer of maps, channels first")
        if self.num_channels != layers[0].shape[0]:
            raise ValueError(f"{self.num_channels} channels of layer {layers[0].name}, which has {layers[0].shape[0]}")
        if not self.factor.shape[2]:
            raise ValueError("a factor of rank 0")
        require_variances(self.channels, "channels")
