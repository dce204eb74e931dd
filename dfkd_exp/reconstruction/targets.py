"""What a group of images is to match, as types: in each recorded layer, and as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from dfkd_exp.models.view import View


@dataclass(frozen=True)
class LayerTarget:
    """What the values of one recorded ``layer``, by index, are to have; what is None is not asked for. Of several groups each tensor has
    a first dimension more, ``[G, …]``.

    ``mean[F]`` and ``std[F]``: of the group's images, squared errors divided by ``scale[F]``. ``directions[D, F]``: along them the group's
    covariance is to be the identity, with weight ``directions_weight``. F are the layer's units or, if there is one, of a ``view`` of it.
    ``draw[N, U]``: the units of each image, mean squared error times ``draw_weight``, after a ReLU where it is ``rectified``.
    """

    layer: int
    mean: Tensor | None = None
    std: Tensor | None = None
    scale: Tensor | None = None
    directions: Tensor | None = None
    draw: Tensor | None = None
    draw_weight: Tensor | None = None
    directions_weight: float = 0.0
    rectified: bool = False
    view: View | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Those that are not None, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}

    def with_tensors(self, tensors: dict[str, Tensor]) -> LayerTarget:
        """The same with other tensors."""
        return replace(self, **tensors)  # type: ignore[arg-type]  # they are fields


@dataclass(frozen=True)
class GroupTarget:
    """What a group is to match: in its layers, the class of each image, ``labels[N]``, and dropout ``masks`` ``[N, *shape]``, if there
    are any; what terms have ``drawn`` for the images, ``[N, …]`` each; and how its images are moved before they are looked at,
    ``moves[A + 1]`` (`moved`), if they ever are. Of several groups each tensor has a first dimension more."""

    layers: tuple[LayerTarget, ...]
    labels: Tensor
    masks: tuple[Tensor, ...] = ()
    drawn: tuple[Tensor, ...] = ()
    moves: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """All of them, in a fixed order."""
        of_layers = (tensor for layer in self.layers for tensor in layer.tensors().values())
        moves = [] if self.moves is None else [self.moves]
        return [*of_layers, self.labels, *self.masks, *self.drawn, *moves]

    def with_tensors(self, tensors: Sequence[Tensor]) -> GroupTarget:
        """The same with other tensors, in the order of `tensors`."""
        parts = iter(tensors)
        layers = tuple(layer.with_tensors({name: next(parts) for name in layer.tensors()}) for layer in self.layers)
        labels = next(parts)
        masks, drawn = (tuple(next(parts) for _ in held) for held in (self.masks, self.drawn))
        return GroupTarget(layers, labels, masks, drawn, next(parts, None))

    @classmethod
    def stacked(cls, groups: Sequence[GroupTarget]) -> GroupTarget:
        """Several groups' as one."""
        columns = zip(*(group.tensors() for group in groups), strict=True)
        return groups[0].with_tensors([torch.stack(column) for column in columns])

    def to(self, device: torch.device) -> GroupTarget:
        return self.with_tensors([tensor.to(device) for tensor in self.tensors()])

    def arranged(self, order_of: Callable[[int], Tensor]) -> GroupTarget:
        """Units in the order in which a layer's values lie in memory, ``order_of(layer)`` ``[*U]``."""
        return replace(self, layers=tuple(_arranged(layer, order_of(layer.layer)) for layer in self.layers))


def _arranged(target: LayerTarget, order: Tensor) -> LayerTarget:
    of_units = ["draw"] if target.view else ["mean", "std", "scale", "directions", "draw"]
    held = {name: tensor for name, tensor in target.tensors().items() if name in of_units}
    return target.with_tensors({n: values[..., order.to(values.device)].contiguous() for n, values in held.items()})
