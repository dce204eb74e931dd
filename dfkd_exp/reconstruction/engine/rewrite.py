"""Which convolutions of a network become products over blocks, and blocks of what size."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfkd_exp.reconstruction.engine.blocks import (
    BlockConv2d,
    BlockMaxPool2d,
    Size,
    low_padding,
    num_neighbours,
    to_blocks,
)

LARGEST_SIDE = 4
"""Pixels; at 8, most of what a block's outputs are multiplied with is zero."""
LARGEST_MATRIX = 2_048
"""Rows and columns; beyond it the product does far more work than the convolution."""
WIDE_ENOUGH = 64
"""Outputs per block that keep a vector unit busy; a convolution of so many channels needs no blocks."""
ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Sigmoid, nn.Tanh,
    nn.Hardtanh, nn.Hardswish, nn.Identity, nn.Dropout, nn.Dropout2d,
)  # fmt: skip
LAYERS = (nn.Conv2d, nn.MaxPool2d, *ELEMENTWISE)


@dataclass(frozen=True)
class Leaf:
    """A layer in a chain: its module path, and the size of its outputs in pixels."""

    path: str
    module: nn.Module
    size: Size


Run = list[tuple[Leaf, int]]
"""Layers that follow one another, each with the side of the blocks that it puts out."""


def with_blocks(network: nn.Module, example: Tensor) -> tuple[nn.Module, dict[str, Tensor]]:
    """A copy of a frozen network whose `runs` work on blocks, and the order of the units that layers within them put out.

    Module paths stay. An order is an index into the flattened ``[C, H, W]``, in the shape of the layer's output for one
    image. ``example``: inputs ``[N, C, H, W]``. A network that takes its `nn.Sequential` apart is left as it is.
    """
    changed = copy.deepcopy(network)
    orders: dict[str, Tensor] = {}
    for run in runs(changed, example):
        channels = 0
        for leaf, side in run:
            first, last = leaf is run[0][0], leaf is run[-1][0]
            if isinstance(leaf.module, nn.Conv2d):
                channels = leaf.module.out_channels
                _replace(changed, leaf.path, BlockConv2d(leaf.module, leaf.size, side, first, last))
            elif isinstance(leaf.module, nn.MaxPool2d):
                _replace(changed, leaf.path, BlockMaxPool2d(side, last))
            elif getattr(leaf.module, "inplace", False):
                # Pooling's gradient needs both what the maximum was taken of, and the maximum.
                leaf.module.inplace = False  # type: ignore[assignment]
            if not last:
                units = torch.arange(channels * leaf.size[0] * leaf.size[1], device=example.device)
                orders[leaf.path] = to_blocks(units.view(1, channels, *leaf.size), side)[0]
    for path, module in network.named_modules():
        *_, (end, _) = _leaves(path, module)
        if end in orders:
            orders[path] = orders[end]  # an `nn.Sequential` puts out what its last layer does
    return (changed, orders) if _same(changed, network, example) else (copy.deepcopy(network), {})


def runs(network: nn.Module, example: Tensor) -> list[Run]:
    """The layers that are to work on blocks: convolutions of stride 1, element-wise layers, and 2x2 max-pooling.

    Each run begins with a convolution, ends with one or with pooling, lies in one `nn.Sequential` and those within it, and
    has blocks of more than one pixel. Layers that are used more than once are left out.
    """
    sizes: dict[nn.Module, list[torch.Size]] = {}

    def note_size(module: nn.Module, _inputs: object, output: object) -> None:
        sizes.setdefault(module, []).append(output.shape if isinstance(output, Tensor) else torch.Size())

    handles = [module.register_forward_hook(note_size) for module in network.modules()]
    try:
        with torch.no_grad():
            network(example.clone())
    finally:
        for handle in handles:
            handle.remove()

    found: list[Run] = []
    for layers in _chains("", network):
        chain: list[Leaf] = []
        for path, module in [*layers, ("", nn.Module())]:
            shapes = sizes.get(module, [])
            if path and type(module) in LAYERS and len(shapes) == 1 and len(shapes[0]) == 4:
                chain.append(Leaf(path, module, (shapes[0][2], shapes[0][3])))
            else:
                found += _planned(chain)
                chain = []
    return found


def _leaves(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What a `nn.Sequential` applies, one after the other; any other module is its own."""
    if type(module) is nn.Sequential and len(module):
        for name, child in module.named_children():
            yield from _leaves(f"{path}.{name}".lstrip("."), child)
    else:
        yield path, module


def _chains(path: str, module: nn.Module) -> Iterator[list[tuple[str, nn.Module]]]:
    """Layers that are applied one after the other, and those inside of them likewise."""
    leaves = list(_leaves(path, module))
    yield leaves
    for leaf_path, leaf in leaves:
        for name, child in leaf.named_children():
            yield from _chains(f"{leaf_path}.{name}".lstrip("."), child)


def _planned(chain: list[Leaf]) -> list[Run]:
    """A chain cut into runs, from its end backwards: the side of the blocks doubles at each pooling that is passed."""
    if not chain:
        return []
    run: Run = []
    side = 0  # of the blocks that the layer puts out; 0 as long as nothing has decided it
    for position in reversed(range(len(chain))):
        leaf, before = chain[position], chain[position - 1] if position else None
        if isinstance(leaf.module, nn.Conv2d):
            side = _side(leaf.module, leaf.size, side, first=before is None)
        elif isinstance(leaf.module, nn.MaxPool2d):
            side = max(side, 1) if before and _halves(leaf, before.size, max(side, 1)) else 0
        if not side:
            break
        run.insert(0, (leaf, side))
        if isinstance(leaf.module, nn.MaxPool2d):
            side *= 2
    while run and not isinstance(run[0][0].module, nn.Conv2d):
        run.pop(0)
    earlier = _planned(chain[: len(chain) - max(len(run), 1)])
    pays = any(side > 1 for leaf, side in run if isinstance(leaf.module, nn.Conv2d))
    return [*earlier, run] if pays else earlier


def _side(convolution: nn.Conv2d, size: Size, given: int, first: bool) -> int:
    """Of the blocks that a convolution puts out, ``given`` by the layers behind it unless 0; 0 if it cannot be done."""
    usual = convolution.padding_mode == "zeros" and convolution.groups == 1
    if not usual or (convolution.stride, convolution.dilation) != ((1, 1), (1, 1)):
        return 0
    side = given or LARGEST_SIDE
    while not given and side > 1 and (side // 2) ** 2 * convolution.out_channels >= WIDE_ENOUGH:
        side //= 2
    while not given and side > 1 and any(length % side for length in size):
        side //= 2
    padding = (0, 0) if first else low_padding(convolution)
    blocks = [num_neighbours(k, pad, side) for k, pad in zip(convolution.kernel_size, padding, strict=True)]
    rows, columns = blocks[0] * blocks[1] * convolution.in_channels, convolution.out_channels
    fits = side * side * max(rows, columns) <= LARGEST_MATRIX
    return side if fits and not any(length % side for length in size) else 0


def _halves(leaf: Leaf, before: Size, side: int) -> bool:
    """Whether it is 2x2 max-pooling of images that blocks of twice the side cover."""
    pooling = leaf.module
    assert isinstance(pooling, nn.MaxPool2d)
    settings = [pooling.kernel_size, pooling.stride, pooling.padding, pooling.dilation]
    plain = [value if isinstance(value, tuple) else (value, value) for value in settings]
    usual = plain == [(2, 2), (2, 2), (0, 0), (1, 1)] and not pooling.return_indices
    return usual and 2 * side <= LARGEST_SIDE and not any(length % (2 * side) for length in before)


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


def _same(changed: nn.Module, network: nn.Module, example: Tensor) -> bool:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(example.shape, generator=generator).to(example)
    with torch.no_grad():
        expected = network(images.clone())
        try:
            found = changed(images.clone())
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError):
            return False
    return found.shape == expected.shape and bool((found - expected).norm() <= 1e-3 * expected.norm())
