"""The regions of a layer's maps: windows of one size, in each of which all locations of a channel are put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from dfkd_exp.models.layers import Layer
from dfkd_exp.models.view import View


def window(length: int, grid: int) -> tuple[int, int]:
    """Size and stride of the smallest windows, ``grid`` of them, that cover ``length`` locations and nothing else: as those of a pooling.

    They overlap where ``grid`` does not divide the length. Where there are no more locations than windows, each is one.
    """
    if length <= grid:
        return 1, 1
    if grid == 1:
        return length, length
    least = -(-length // grid)
    size = least + (length - least) % (grid - 1)
    return size, (length - size) // (grid - 1)


@dataclass(frozen=True)
class Regions(View):
    """The regions of a ``layer``: each channel in each of ``grid`` windows along each axis of locations (`window`). With a grid of 1 every
    channel is one region; with one as fine as the map every unit is."""

    layer: Layer
    grid: int
    pools: ClassVar[bool] = True

    @property
    def basis(self) -> str:
        return "channels" if self.grid == 1 else "regions"

    @cached_property
    def _windows(self) -> list[tuple[int, int, int]]:
        """Along each axis of the layer's the number of windows, their size and their stride; channels stay apart."""
        return [
            (length, 1, 1) if axis == self.layer.channel_axis else (min(length, self.grid), *window(length, self.grid))
            for axis, length in enumerate(self.layer.shape)
        ]

    @property
    def shape(self) -> tuple[int, ...]:
        """The layer's own, with the number of windows for each length."""
        return tuple(number for number, _, _ in self._windows)

    @property
    def num_values(self) -> int:
        return math.prod(self.shape)

    @property
    def per_image(self) -> int:
        """M: the locations in each."""
        return math.prod(size for _, size, _ in self._windows)

    @property
    def windows(self) -> Regions:
        return self

    @property
    def tiled(self) -> bool:
        """Whether windows do not overlap."""
        return all(
            number * size == length for length, (number, size, _) in zip(self.layer.shape, self._windows, strict=True)
        )

    def blocks(self, values: Tensor, order: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
        """Units of images, ``[…, *shape]`` but that axes are in another ``order``, each axis divided into windows and what is in them: a
        view. And the dimensions of the latter, that of channels, which is alone in its own, last. Only where windows are `tiled`."""
        within = range(values.dim() - len(order) + 1, values.dim() + len(order), 2)
        for dim, axis in zip(within, order, strict=True):
            number, size, _ = self._windows[axis]
            values = values.unflatten(dim - 1, (number, size))
        of_channels = within[list(order).index(self.layer.channel_axis)]
        return values, (*(dim for dim in within if dim != of_channels), of_channels)

    def merged(self, larger: Regions) -> Regions | None:
        """The ``larger`` windows as windows of these ones, if each of them is made of whole ones."""
        fits = larger.tiled and all(own % other == 0 for own, other in zip(self.shape, larger.shape, strict=True))
        return Regions(replace(self.layer, shape=self.shape), larger.grid) if fits else None

    def gathered(self, values: Tensor) -> Tensor:
        """Units ``[N, *shape]`` as the values of each region, ``[N, M, F]``; a view wherever strides allow one."""
        for axis, (_, size, stride) in enumerate(self._windows):
            values = values.unfold(1 + axis, size, stride)
        return values.flatten(1 + len(self.shape)).flatten(1, -2).mT

    def spread(self, values: Tensor) -> Tensor:
        """Values of each region, ``[N, M, F]``, as units ``[N, U]``, which undoes `gathered`: where regions overlap a unit has its value in
        that whose middle is nearest."""
        region, place = torch.zeros(2, *[1] * len(self.shape), dtype=torch.long)
        for axis, (number, size, stride) in enumerate(self._windows):
            where = torch.arange(self.layer.shape[axis]).view(-1, *[1] * (len(self.shape) - axis - 1))
            nearest = ((where - (size - 1) / 2) / stride).round().long().clamp(0, number - 1)
            region = region * number + nearest
            place = place * size + where - nearest * stride
        return values[:, place.expand(self.layer.shape).flatten(), region.flatten()]

    def pooled(self, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance of each region, ``[N, F]``, from those that units ``[N, *shape]`` have over ``count`` images."""
        means = self.gathered(mean)
        pooled = means.mean(1)
        squares = (count - 1) * self.gathered(variance).sum(1) + count * (means - pooled[:, None]).square().sum(1)
        return pooled, squares / (count * self.per_image - 1)


def regions_of(layer: Layer, grid: int) -> Regions | None:
    """Those of a layer, or None where each would be a single unit."""
    regions = Regions(layer, grid)
    return regions if regions.per_image > 1 else None
