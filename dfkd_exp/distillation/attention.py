"""Attention transfer: where in an image teacher and student are active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.example_run import example_run
from dfkd_exp.models.layers import Layer, axes_of
from dfkd_exp.models.recording import borrowed, device_of, recording


@dataclass(frozen=True)
class Attention:
    """The modules whose maps are compared, by path, the ``student``'s beside the ``teacher``'s: of each size of maps that both have the
    modules that put them out last."""

    student: tuple[str, ...]
    teacher: tuple[str, ...]

    @classmethod
    def between(cls, student: nn.Module, teacher: nn.Module, example: Tensor) -> Attention:
        """``example``: inputs ``[N, *shape]``. Raises DfkdError if there are no maps of one size."""
        one, other = (_last_of_sizes(network, example) for network in (student, teacher))
        shared = [size for size in other if size in one]
        if not shared:
            raise DfkdError(
                "distillation.attention: student and teacher have no layers whose maps are of one size; set distillation.attention=0"
            )
        return cls(tuple(one[size] for size in shared), tuple(other[size] for size in shared))


def _last_of_sizes(network: nn.Module, example: Tensor) -> dict[tuple[int, ...], str]:
    """The last module to put out maps of each size, by size; of more than one location."""
    modules = dict(network.named_modules())
    with borrowed(network):
        values = example_run(network, example.to(device_of(network)), set(), set()).values
    found: dict[tuple[int, ...], str] = {}
    for (name, _), value in values.items():
        shape = tuple(value.shape[1:])
        layer = Layer(name, shape, axes_of(modules.get(name), shape))
        if layer.axes[:1] == ("channel",) and layer.num_units > layer.num_channels:
            found[shape[1:]] = name
    return found


def logits_and_maps(network: nn.Module, names: Sequence[str], inputs: Tensor) -> tuple[Tensor, ...]:
    """The network's logits ``[N, K]`` and, of each module in ``names``, where it is active, ``[N, locations]``."""
    with recording(network, names) as recorder:
        values = recorder(inputs)
    return recorder.output, *(attention_map(value) for value in values)


def attention_map(values: Tensor) -> Tensor:
    """The sum of squares over the channels of ``values[N, C, …]``, as a vector of length 1 for each image, ``[N, locations]``.

    Source: Zagoruyko and Komodakis (2017), eq. 1, with p = 2.
    """
    return F.normalize(values.float().square().sum(1).flatten(1), dim=1)


def attention_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """The mean squared difference of attention maps ``[N, locations]``, summed over the layers; a scalar.

    Source: Micaelli and Storkey (2019), ZSKT, eq. 3, for which its published code, and its weight of 250, take the mean of the squares.
    """
    return torch.stack([(own - wanted).square().mean() for own, wanted in zip(ours, theirs, strict=True)]).sum()
