"""How a recorded layer's values lie in memory, so that targets may lie as they do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dfkd_exp.models.layers import Layer


@dataclass(frozen=True)
class Layout:
    """The index of each unit of a ``layer`` in the order of the metadata, as the units of one image lie in memory, ``[*U]``; and along
    which dimension of these, if any, channels lie apart from locations: else they are the fastest to change. ``places[U]``: where each unit
    is that is next in the order of the metadata, if that is another."""

    order: Tensor
    layer: Layer
    places: Tensor | None
    channel_dim: int | None
    channels_last: bool = False

    @classmethod
    def of(cls, output: Tensor, layer: Layer) -> Layout:
        """That of values ``[N, *shape]`` in the metadata's order, whichever way their strides are."""
        order = torch.arange(output[0].numel(), device=output.device).view(output.shape[1:])
        channels_last = output.dim() == 4 and output.is_contiguous(memory_format=torch.channels_last)
        if channels_last and not output.is_contiguous():
            return cls.in_order(order.permute(1, 2, 0), layer, channels_last=True)
        return cls.in_order(order, layer)

    @classmethod
    def in_order(cls, order: Tensor, layer: Layer, channels_last: bool = False) -> Layout:
        """That of values which lie in another ``order``."""
        flat = order.flatten()
        places = None if bool((flat.diff() == 1).all()) else flat.argsort()
        after = layer.num_units // torch.Size(layer.shape[: layer.channel_axis + 1]).numel()
        channel_of = order // after % layer.num_channels
        for dim, length in enumerate(order.shape):
            along = torch.arange(length, device=order.device).view(-1, *[1] * (order.dim() - dim - 1))
            if length == layer.num_channels and bool((channel_of == along).all()):
                return cls(order, layer, places, dim, channels_last)
        return cls(order, layer, places, None, channels_last)

    def __call__(self, values: Tensor) -> Tensor:
        """Values ``[N, …]`` as ``[N, *U]``, without moving anything."""
        return values.permute(0, 2, 3, 1) if self.channels_last else values

    @property
    def axes(self) -> tuple[int, ...] | None:
        """The axes of the layer in the order in which they lie; None where units lie otherwise."""
        axes = tuple(range(len(self.layer.shape)))
        if self.channels_last:
            return (*axes[1:], 0)
        return axes if self.places is None and self.order.shape == self.layer.shape else None

    def ordered(self, values: Tensor, first: int) -> Tensor:
        """Units ``[…, *U]``, from the dimension ``first`` on, in the order of the metadata: ``[…, *shape]``; a view where it can be one."""
        if self.channels_last:
            return values.movedim(-1, first)
        flat = values.flatten(first)
        return (flat if self.places is None else flat[..., self.places]).unflatten(first, self.layer.shape)

    def rows(self, values: Tensor) -> Tensor:
        """Groups ``[G, N, *U]`` as ``[G, M, F]``: channels of M = N times so many locations."""
        if self.channel_dim is not None:
            values = values.movedim(2 + self.channel_dim, -1)
        return values.reshape(len(values), -1, self.layer.num_channels)
