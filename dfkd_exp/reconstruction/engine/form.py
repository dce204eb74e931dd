"""The frozen teacher in the form in which an engine computes it."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.channels_last import arrange, takes_channels_last
from dfkd_exp.reconstruction.engine.rewrite import with_blocks
from dfkd_exp.reconstruction.engine.settings import ResolvedEngine

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class Form(NamedTuple):
    """A ``teacher``, how what it takes is to lie in memory, and the ``orders`` of units of the layers, by name, that have another."""

    teacher: nn.Module
    memory_format: torch.memory_format
    orders: dict[str, Tensor]


def formed(teacher: nn.Module, engine: ResolvedEngine, example: Tensor, keep_order: bool) -> Form:
    """A ``teacher`` as the ``engine`` computes it, itself where nothing is to be changed; ``keep_order``: with units in its own order.

    ``example``: inputs ``[N, *shape]``, on the device. Raises DfkdError for what the engine asks of a device or network that cannot.
    """
    if engine.cuda_graphs and example.device.type != "cuda":
        raise DfkdError(
            f"engine.cuda_graphs=true needs a GPU of NVIDIA's, and this is a {example.device.type}; leave it out"
        )
    last = engine.convolutions == "channels_last"
    if last and not takes_channels_last(teacher, example):
        raise DfkdError(
            "engine.convolutions=channels_last is for images, and networks that convolve them and take no view of what comes out; "
            "leave it out"
        )
    orders: dict[str, Tensor] = {}
    if engine.convolutions == "blocks" and not keep_order:
        teacher, orders = with_blocks(teacher, example)
    elif last or any(parameter.dtype != DTYPES[engine.precision] for parameter in teacher.parameters()):
        teacher = copy.deepcopy(teacher)
    teacher = teacher.to(DTYPES[engine.precision])
    if last:
        arrange(teacher)
    return Form(teacher, torch.channels_last if last else torch.preserve_format, orders)
