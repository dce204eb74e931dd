"""A GPU's TF32 on any machine: products and convolutions of numbers of 10 bits, wherever PyTorch's settings would have a GPU do so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten
PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.mv, aten.addmv, aten.dot}
CONVOLUTIONS = {aten.convolution, aten.convolution_backward}


def rounded(value: Any) -> Any:
    """A float32 tensor with 10 bits of mantissa; anything else as it is."""
    if not isinstance(value, Tensor) or value.dtype != torch.float32:
        return value
    return ((value.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class Tf32(TorchDispatchMode):
    """Within it a CPU computes as a GPU with TF32 does, as far as the settings that hold at that moment allow it."""

    def __init__(self) -> None:
        super().__init__()
        self.rounded = 0
        """How many operations were."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, backends = func.overloadpacket, torch.backends
        asked = (packet in PRODUCTS and backends.cuda.matmul.fp32_precision == "tf32") or (
            packet in CONVOLUTIONS and backends.cudnn.conv.fp32_precision == "tf32"
        )
        self.rounded += asked
        return func(*(tree_map(rounded, args) if asked else args), **(kwargs or {}))


@contextmanager
def on_a_gpu_with_tf32() -> Iterator[Tf32]:
    """A GPU whose products and convolutions are TF32's, unless who computes forbids it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with Tf32() as mode:
            yield mode
    finally:
        torch.set_float32_matmul_precision(before)
