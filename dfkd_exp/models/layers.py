"""A recorded layer of a network: where its values come from, their shape, and what the axes of that shape are."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError

OUTPUT = "output"
"""The name under which the network's output is recorded where it is not itself the output of a layer with weights."""

Site = tuple[str, str]
"""A module path, or `OUTPUT`, and the side of the module: output or input."""

CHANNEL_AXES = ("channel", "feature", "unit")
"""The axes along which statistics per channel tell values apart; all others are locations."""

TOKENS = ("token", "feature")

FEATURES_LAST = (nn.Linear, nn.Embedding, nn.MultiheadAttention)
NORMS_OF_FEATURES = (nn.LayerNorm, nn.RMSNorm)
CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)


@dataclass(frozen=True)
class Layer:
    """A recorded layer: module path, the ``shape`` of what is recorded for one image, its ``axes``, a name for each dimension, and whether
    the module's ``output`` or its ``input`` is recorded (``side``).

    Axes are ``("unit",)``, ``("channel", "height", "width")``, ``("token", "feature")`` and their like; left out, those of an
    image's features for such a shape.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[str, ...] = ()
    side: str = "output"

    def __post_init__(self) -> None:
        if not self.axes:
            object.__setattr__(self, "axes", axes_of(None, self.shape))

    @property
    def num_units(self) -> int:
        return math.prod(self.shape)

    @property
    def channel_axis(self) -> int:
        """The dimension of ``shape`` that is the channels', features' or, of a vector, the units'."""
        found = next((index for index, axis in enumerate(self.axes) if axis in CHANNEL_AXES), None)
        if found is None:
            raise ValueError(
                f"layer {self.name} with the axes {list(self.axes)}, none of which is of channels or units"
            )
        return found

    @property
    def num_channels(self) -> int:
        return self.shape[self.channel_axis]

    @property
    def title(self) -> str:
        """For people."""
        return (
            self.name
            if self.side == "output"
            else f"the input of {self.name}"
            if self.name
            else "the images themselves"
        )


def images_of(shape: tuple[int, ...]) -> Layer:
    """The network's own input, of one image of such a ``shape``: what the module without a name, which is all of it, takes in."""
    axes = ("channel", *SPACE[len(shape) - 1]) if len(shape) > 1 else ("unit",)
    return Layer("", shape, axes, "input")


def axes_of(module: nn.Module | None, shape: tuple[int, ...]) -> tuple[str, ...]:
    """What the dimensions of a module's values for one image are: by its kind, by the number of its channels, or as is usual for so many
    dimensions."""
    if len(shape) <= 1:
        return ("unit",) * len(shape)
    if not _features_last(module, shape):
        return ("channel", *SPACE[len(shape) - 1])
    return TOKENS if len(shape) == 2 else (*SPACE[len(shape) - 1], "feature")


def _features_last(module: nn.Module | None, shape: tuple[int, ...]) -> bool:
    if isinstance(module, CHANNELS_FIRST):
        return False
    if isinstance(module, FEATURES_LAST):
        return True
    if isinstance(module, NORMS_OF_FEATURES) and len(module.normalized_shape) == 1 and not _permutes(module):
        return True
    widths = {len(parameter) for parameter in module.parameters() if parameter.dim() == 1} if module else set()
    if (shape[0] in widths) != (shape[-1] in widths):
        return shape[-1] in widths
    return len(shape) == 2 or (bool(widths) and isinstance(module, NORMS_OF_FEATURES) and _mixes_last(module, shape))


def _mixes_last(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a norm of as many channels as there are rows and columns normalises along the last dimension: one value changes those."""
    values = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(next(module.parameters()))
    values[1] = values[0]
    values[1].view(-1)[0] += 1
    with torch.no_grad():
        before, after = module(values)
    return bool((before != after).movedim(-1, 0).flatten(1).any(1).sum() > 1)


def _permutes(module: nn.Module) -> bool:
    """Whether a norm of features has a way of its own to apply itself, as those of channels-first maps do."""
    return type(module).forward not in (kind.forward for kind in NORMS_OF_FEATURES)


def main_output(output: object, name: str) -> Tensor:
    """The tensor that a module puts out, or the first of several: of recurrent nets the sequence, of attention the tokens. Raises DfkdError
    for layer ``name`` if that is not one."""
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise DfkdError(f"the teacher's layer {name!r} does not put out one tensor per image; name another layer")
    return output


def first_input(inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The first of a module's arguments, by position or by name."""
    return inputs[0] if inputs else next(iter(named.values()))


def with_main_output(output: Any, value: Tensor) -> Any:
    """The ``output`` of a module with another `main_output`."""
    if isinstance(output, MutableMapping):
        found = copy(output)
        found[next(iter(output))] = value
        return found
    return (value, *output[1:]) if isinstance(output, tuple | list) else value


SPACE = {
    1: ("length",),
    2: ("height", "width"),
    3: ("depth", "height", "width"),
    4: ("time", "depth", "height", "width"),
}
"""Names of the dimensions of space, by their number."""
