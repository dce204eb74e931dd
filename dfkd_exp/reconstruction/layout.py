"""How a recorded layer's values lie in memory, so that targets may lie as they do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dfkd_exp.models.layers import Layer
from dfkd_exp.models.regions import Regions
from dfkd_exp.reconstruction.losses import group_moments


@dataclass(frozen=True)
class Layout:
    """The index of each unit of a ``layer`` in the order of the metadata, as the units of one image lie in memory, ``[*U]``; and along
    which dimension of these, if any, channels lie apart from locations: else they are the fastest to change."""

    order: Tensor
    layer: Layer
    channel_dim: int | None
    channels_last: bool = False

    @classmethod
    def of(cls, output: Tensor, layer: Layer) -> Layout:
        """That of values ``[N, *shape]`` in the metadata's order, whichever way their strides are."""
        order = torch.arange(output[0].numel(), device=output.device).view(output.shape[1:])
        channels_last = output.dim() == 4 and output.is_contiguous(memory_format=torch.channels_last)
        if channels_last and not output.is_contiguous():
            return cls._found(order.permute(1, 2, 0), layer, channels_last=True)
        return cls._found(order, layer)

    @classmethod
    def reordered(cls, order: Tensor, layer: Layer) -> Layout:
        """That of values which lie in another ``order``."""
        return cls._found(order, layer)

    @classmethod
    def _found(cls, order: Tensor, layer: Layer, channels_last: bool = False) -> Layout:
        after = layer.num_units // torch.Size(layer.shape[: layer.channel_axis + 1]).numel()
        channel_of = order // after % layer.num_channels
        for dim, length in enumerate(order.shape):
            along = torch.arange(length, device=order.device).view(-1, *[1] * (order.dim() - dim - 1))
            if length == layer.num_channels and bool((channel_of == along).all()):
                return cls(order, layer, dim, channels_last)
        return cls(order, layer, None, channels_last)

    def __call__(self, values: Tensor) -> Tensor:
        """Values ``[N, …]`` as ``[N, *U]``, without moving anything."""
        return values.permute(0, 2, 3, 1) if self.channels_last else values

    @cached_property
    def _place(self) -> Tensor:
        """Where each unit is that is next in the order of the metadata, ``[U]``."""
        return self.order.flatten().argsort()

    def moments(self, values: Tensor, regions: Regions | None) -> tuple[Tensor, Tensor]:
        """Mean and variance of the units of groups ``[G, N, *U]``, as they lie, or of regions, ``[G, F]``."""
        if regions is None:
            return group_moments(values)
        if regions.grid > 1:
            mean, variance = (
                own.flatten(1)[:, self._place].unflatten(1, self.layer.shape) for own in group_moments(values)
            )
            return regions.pooled(mean, variance, values.shape[1])
        if self.channel_dim is None:
            return group_moments(self.rows(values, regions))
        return group_moments(values, tuple(dim for dim in range(1, values.dim()) if dim != 2 + self.channel_dim))

    def rows(self, values: Tensor, regions: Regions | None) -> Tensor:
        """Groups ``[G, N, *U]`` as ``[G, M, F]``: units of N images, or channels of M = N times so many locations."""
        if regions is None:
            return values.flatten(2)
        if self.channel_dim is not None:
            values = values.movedim(2 + self.channel_dim, -1)
        return values.reshape(len(values), -1, self.layer.num_channels)
