"""How a recorded layer's values lie in memory, so that targets may lie as they do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dfkd_exp.models.layers import Layer
from dfkd_exp.models.view import View
from dfkd_exp.reconstruction.losses import group_moments


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
            return cls._found(order.permute(1, 2, 0), layer, channels_last=True)
        return cls._found(order, layer)

    @classmethod
    def reordered(cls, order: Tensor, layer: Layer) -> Layout:
        """That of values which lie in another ``order``."""
        return cls._found(order, layer)

    @classmethod
    def _found(cls, order: Tensor, layer: Layer, channels_last: bool = False) -> Layout:
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

    def moments(self, values: Tensor, view: View | None) -> tuple[Tensor, Tensor]:
        """Mean and variance of the units of groups ``[G, N, *U]``, as they lie, or of a view's values, ``[G, F]``."""
        if view is None:
            return group_moments(values)
        if not view.pools:
            found = view.gathered(self._in_order(values, 2).flatten(0, 1))
            return group_moments(found.view(len(values), -1, view.num_values))
        if view.basis != "channels":
            mean, variance = (self._in_order(own, 1) for own in group_moments(values))
            return view.pooled(mean, variance, values.shape[1])
        if self.channel_dim is None:
            return group_moments(self.rows(values, view))
        return group_moments(values, tuple(dim for dim in range(1, values.dim()) if dim != 2 + self.channel_dim))

    def _in_order(self, values: Tensor, first: int) -> Tensor:
        """Units ``[…, *U]``, from the dimension ``first`` on, in the order of the metadata: ``[…, *shape]``; a view where it can be one."""
        if self.channels_last:
            return values.movedim(-1, first)
        flat = values.flatten(first)
        return (flat if self.places is None else flat[..., self.places]).unflatten(first, self.layer.shape)

    def rows(self, values: Tensor, view: View | None) -> Tensor:
        """Groups ``[G, N, *U]`` as ``[G, M, F]``: units of N images, or channels of M = N times so many locations."""
        if view is None:
            return values.flatten(2)
        if self.channel_dim is not None:
            values = values.movedim(2 + self.channel_dim, -1)
        return values.reshape(len(values), -1, self.layer.num_channels)
