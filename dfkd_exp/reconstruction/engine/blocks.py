"""Convolutions and max-pooling on images kept as blocks of pixels: matrix products and maxima of contiguous memory.

A vendor's convolution leaves most of a vector unit idle where channels are few. Here ``t x t`` pixels with their channels are
one long vector, as if they were channels: images ``[N, C, H, W]`` are ``[N, H/t, W/t, 4, t t C / 4]``, or ``[N, H, W, C]``
at t = 1. The pixels of a block come by their place in the 2x2 squares that pooling takes together, so the 4 are what it
takes the maximum of; within each, again so. What is left after pooling is thus in the same order, with half the t.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]


def to_blocks(images: Tensor, side: int) -> Tensor:
    """``[N, C, H, W]`` as blocks of ``side`` x ``side`` pixels, a power of two that divides H and W."""
    bits = side.bit_length() - 1
    split = images.unflatten(3, (-1, *[2] * bits)).unflatten(2, (-1, *[2] * bits))
    blocks = split.permute(0, 2, 3 + bits, *_by_parity(bits), 1)
    return blocks.flatten(3) if side == 1 else blocks.flatten(5).flatten(3, 4)


def from_blocks(blocks: Tensor, side: int) -> Tensor:
    """The images ``[N, C, H, W]`` again, channels last in memory."""
    bits = side.bit_length() - 1
    split = blocks.flatten(3).unflatten(3, (*[2] * 2 * bits, -1))
    order = (0, 2, 3 + bits, *_by_parity(bits), 1)  # the permutation of `to_blocks`; this is its inverse
    apart = split.permute([order.index(axis) for axis in range(len(order))])
    height, width = apart.shape[2 : 3 + bits].numel(), apart.shape[3 + bits :].numel()
    channels_last = apart.movedim(1, -1).reshape(len(blocks), height, width, -1)
    return channels_last.permute(0, 3, 1, 2)


def _by_parity(bits: int) -> list[int]:
    """Where `to_blocks` finds the binary digits of a pixel's row and column in its block, the lowest first."""
    return [axis for bit in reversed(range(bits)) for axis in (3 + bit, 4 + bits + bit)]


class _Materialised(torch.autograd.Function):
    """The identity, whose gradient is stored before anything reads it.

    The compiler would work out the sum over overlapping windows anew for each of the four that pooling's gradient asks
    for. It stores what is to be viewed with strides; uncompiled, nothing is copied.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        return gradient.as_strided(gradient.shape, gradient.stride())


class BlockConv2d(nn.Module):
    """A frozen convolution of stride 1 on blocks: one matrix product over each block of outputs' neighbourhood of input blocks.

    ``out_size``: of its outputs, in pixels, which ``side`` divides. ``first``: takes images ``[N, C, H, W]``; ``last``: gives them.
    """

    def __init__(self, convolution: nn.Conv2d, out_size: Size, side: int, first: bool, last: bool):
        super().__init__()
        self.side, self.first, self.last = side, first, last
        self.out_blocks = (out_size[0] // side, out_size[1] // side)
        before = low_padding(convolution)
        kernel = (convolution.kernel_size[0], convolution.kernel_size[1])
        if first:  # pads pixels, so that the kernel starts at a block's edge and reaches into fewer blocks
            self.pixels_before, before = before, (0, 0)
        self.blocks_before = (-(-before[0] // side), -(-before[1] // side))
        self.reach = (num_neighbours(kernel[0], before[0], side), num_neighbours(kernel[1], before[1], side))
        matrix = self._matrix(convolution.weight.detach(), before)
        bias = convolution.bias if convolution.bias is not None else matrix.new_zeros(convolution.out_channels)
        self.register_buffer("matrix", matrix)
        self.register_buffer("bias", bias.detach().repeat(side * side))

    def _matrix(self, weight: Tensor, before: Size) -> Tensor:
        """What each pixel of a neighbourhood adds to each output of a block: the convolution of images of a single pixel."""
        side, (down, across), channels = self.side, self.reach, weight.shape[1]
        ones = torch.eye(down * across * side * side * channels, dtype=weight.dtype, device=weight.device)
        outputs = F.conv2d(from_blocks(ones.view(len(ones), down, across, -1), side), weight)
        top, left = (blocks * side - pad for blocks, pad in zip(self.blocks_before, before, strict=True))
        return to_blocks(outputs[:, :, top : top + side, left : left + side], side).flatten(1).contiguous()

    def forward(self, images: Tensor) -> Tensor:
        (height, width), (down, across) = self.out_blocks, self.reach
        if self.first:
            sizes = ((height + down - 1) * self.side, (width + across - 1) * self.side)
            blocks = to_blocks(_padded(images.movedim(1, -1), self.pixels_before, sizes).movedim(-1, 1), self.side)
        else:
            blocks = images
        blocks = _Materialised.apply(blocks.flatten(3))
        blocks = _padded(blocks, self.blocks_before, (height + down - 1, width + across - 1))
        windows = [blocks[:, y : y + height, x : x + width] for y in range(down) for x in range(across)]
        rows = torch.cat(windows, 3).flatten(0, 2)
        outputs = torch.addmm(self.bias, rows, self.matrix)  # type: ignore[arg-type]
        quarters = (4, -1) if self.side > 1 else (-1,)
        outputs = outputs.view(len(images), height, width, *quarters)
        return from_blocks(outputs, self.side) if self.last else outputs


def _padded(values: Tensor, before: Size, sizes: Size) -> Tensor:
    """``[N, H, W, C]`` with zeros around it: ``before`` it, and after it up to ``sizes``; negative is cut off."""
    (top, left), (height, width) = before, sizes
    bottom, right = height - values.shape[1] - top, width - values.shape[2] - left
    return F.pad(values, (0, 0, left, right, top, bottom)) if any((left, right, top, bottom)) else values


class _MaximumOfFour(torch.autograd.Function):
    """``[…, 4, L]`` to ``[…, L]``. Equal maxima get the gradient each, not the first alone as PyTorch has it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        one, two, three, four = values.unbind(-2)
        largest = torch.maximum(torch.maximum(one, two), torch.maximum(three, four))
        ctx.save_for_backward(values, largest)
        return largest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        values, largest = ctx.saved_tensors
        return torch.where(values == largest.unsqueeze(-2), gradient.unsqueeze(-2), 0)


class BlockMaxPool2d(nn.Module):
    """2x2 max-pooling of blocks; ``side``: of the blocks that it makes. ``last``: gives images ``[N, C, H, W]``."""

    def __init__(self, side: int, last: bool):
        super().__init__()
        self.side, self.last = side, last

    def forward(self, blocks: Tensor) -> Tensor:
        pooled = _MaximumOfFour.apply(blocks)
        if self.side > 1:
            pooled = pooled.unflatten(-1, (4, -1))
        return from_blocks(pooled, self.side) if self.last else pooled


def low_padding(convolution: nn.Conv2d) -> Size:
    """Zeros above and to the left of the image."""
    if isinstance(convolution.padding, str):
        sides = convolution.kernel_size if convolution.padding == "same" else (1, 1)
        return (sides[0] - 1) // 2, (sides[1] - 1) // 2
    return convolution.padding[0], convolution.padding[1]


def num_neighbours(kernel: int, before: int, side: int) -> int:
    """Blocks along one axis that a block of outputs depends on, with ``before`` pixels of padding."""
    return -(-(side + kernel - 1 - before) // side) + -(-before // side)
