"""Convolutions of small images as one matrix product per image row, which processors do much faster than the convolution."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST_MATRIX = 4_000_000
"""Entries; beyond it the product does far more work than the convolution."""


class RowConv2d(nn.Module):
    """A frozen convolution of stride 1 on ``[N, C, H, W]``, as a product with a block-Toeplitz matrix.

    A row of outputs depends on ``k`` whole rows of inputs; with channels last these are contiguous, so that all rows of all
    images are one product ``[N H', k W C] x [k W C, W' C']``. It does ``W / k`` times the operations, each of them many
    times as fast: the vendor's convolutions leave most of a vector unit idle when channels are few.
    """

    def __init__(self, convolution: nn.Conv2d, size: tuple[int, int]):
        super().__init__()
        out_channels, in_channels, rows, columns = convolution.weight.shape
        self.rows, self.padding = rows, _padding(convolution)
        height, width = (side + 2 * pad for side, pad in zip(size, self.padding, strict=True))
        self.out_shape = (height - rows + 1, width - columns + 1, out_channels)
        matrix = convolution.weight.new_zeros(rows, width, in_channels, self.out_shape[1], out_channels)
        for x in range(self.out_shape[1]):
            matrix[:, x : x + columns, :, x] = convolution.weight.detach().permute(2, 3, 1, 0)
        bias = convolution.bias if convolution.bias is not None else convolution.weight.new_zeros(out_channels)
        self.register_buffer("matrix", matrix.view(rows * width * in_channels, -1))
        self.register_buffer("bias", bias.detach().repeat(self.out_shape[1]))

    def forward(self, images: Tensor) -> Tensor:
        down, across = self.padding
        lines = F.pad(images.permute(0, 2, 3, 1), (0, 0, across, across, down, down)).flatten(2)
        windows = torch.cat([lines[:, y : y + self.out_shape[0]] for y in range(self.rows)], 2)
        outputs = torch.addmm(self.bias, windows.flatten(0, 1), self.matrix)  # type: ignore[arg-type]
        return outputs.view(len(images), *self.out_shape).permute(0, 3, 1, 2)


def _padding(convolution: nn.Conv2d) -> tuple[int, int]:
    if isinstance(convolution.padding, str):
        sides = convolution.kernel_size if convolution.padding == "same" else (1, 1)
        return (sides[0] - 1) // 2, (sides[1] - 1) // 2
    return convolution.padding[0], convolution.padding[1]


def fits(module: nn.Module, size: tuple[int, int]) -> bool:
    """Whether `RowConv2d` can stand in for ``module`` on images of ``size``."""
    if not isinstance(module, nn.Conv2d) or module.padding_mode != "zeros":
        return False
    if (module.stride, module.dilation, module.groups) != ((1, 1), (1, 1), 1):
        return False
    if module.padding == "same" and any(side % 2 == 0 for side in module.kernel_size):
        return False
    width = size[1] + 2 * _padding(module)[1]
    out_width = width - module.kernel_size[1] + 1
    return module.kernel_size[0] * width * module.in_channels * out_width * module.out_channels <= LARGEST_MATRIX


def with_row_convolutions(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy in which every convolution that `RowConv2d` fits is one; names of layers stay. ``example``: inputs ``[N, C, H, W]``."""
    network = copy.deepcopy(network)
    sizes: dict[nn.Module, set[tuple[int, int]]] = {}

    def note_size(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes.setdefault(module, set()).add((inputs[0].shape[-2], inputs[0].shape[-1]))

    handles = [m.register_forward_pre_hook(note_size) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(example)
    for handle in handles:
        handle.remove()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            size = sizes.get(child, set())
            if len(size) == 1 and fits(child, *size):
                setattr(parent, name, RowConv2d(child, *size))  # type: ignore[arg-type]
    return network
