"""Whether recorded layers are a chain: each sees the image through the one before it, and by no other way."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.graph import Linearised, weight_blocks
from dfkd_exp.models.example_run import example_run
from dfkd_exp.models.layers import Layer, axes_of, main_output, with_main_output
from dfkd_exp.models.recording import find_layers, frozen, recording

AROUND = 1e-6
"""Values that differ by no more than so much, relatively, are the same."""

MOST_NAMED = 40
"""A chain of more layers is not spelled out in an error."""


def check_chain(teacher: nn.Module, layers: Sequence[Layer], image_shape: Sequence[int]) -> None:
    """Raise DfkdError, with layers of the teacher that are a chain, if these ``layers`` are none: if a skip connection, say, leads around
    one of them. The weights between two layers would then not be all that joins them."""
    network = frozen(copy.deepcopy(teacher)).cpu().double()
    for earlier, later in itertools.pairwise(layers):
        if _sees_around(network, earlier, later, image_shape):
            names = [layer.name for layer in _affine_chain(network, image_shape)]
            chain = f"name layers that follow one another, metadata.layers=[{','.join(names)}], or " if names else ""
            raise DfkdError(
                f"layer {later.name!r} sees the image by another way than through layer {earlier.name!r}, such as a skip connection, so "
                f"the weights between the two are no graph of the network; {chain}set metadata.graph=coactivation"
            )


def _sees_around(network: nn.Module, earlier: Layer, later: Layer, image_shape: Sequence[int]) -> bool:
    """Whether different images make a difference to the later layer where the earlier one puts out the same for all."""
    count, generator = 3 if earlier.shape[0] == 2 else 2, torch.Generator().manual_seed(0)
    images = torch.rand(count, *image_shape, dtype=torch.float64, generator=generator)
    images.requires_grad_(True)  # else activations would stay, and hide from a dead unit what it sees
    fixed = torch.randn(earlier.shape, dtype=torch.float64, generator=generator)

    def same_for_all(_module: nn.Module, _inputs: object, output: object) -> object:
        value = main_output(output, earlier.name)
        images_first = len(value) == count
        return with_main_output(output, (fixed[None] if images_first else fixed[:, None]).expand_as(value).clone())

    handle = network.get_submodule(earlier.name).register_forward_hook(same_for_all)
    try:
        with torch.enable_grad(), Linearised(), recording(network, [later]) as recorder:
            values: Tensor = recorder(images)[0].detach()
    finally:
        handle.remove()
    return bool((values - values[:1]).norm() > AROUND * values.norm())


def _affine_chain(network: nn.Module, image_shape: Sequence[int]) -> list[Layer]:
    """The layers and blocks through which all goes that the network sees of an image, in order; none if the maps between them are not
    affine, or they are very many."""
    example = torch.rand(2, *image_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    modules = dict(network.named_modules())
    named = {name for name, module in modules.items() if [*module.parameters()] and type(module) is not nn.Sequential}
    with Linearised():
        [top] = find_layers(network, example, "top")
        values = example_run(network, example, named, set()).values
    shapes = {name: tuple(value.shape[1:]) for (name, _), value in values.items() if name in named}
    found = [Layer(name, shape, axes_of(modules[name], shape)) for name, shape in shapes.items() if name != top.name]
    chain = [layer for layer in found if not _sees_around(network, layer, top, image_shape)]
    chain = [layer for layer in chain if not top.name.startswith(f"{layer.name}.")]  # it is the network, wrapped
    try:
        weight_blocks(network, [*chain, top], image_shape)
    except DfkdError:
        return []
    return [*chain, top] if len(chain) < MOST_NAMED else []
