"""What the modules of a network put out for example images, and which of it is one tensor per image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.layers import Site, first_input, main_output


@dataclass(frozen=True)
class ExampleRun:
    """``values``: what modules put out, where it is one tensor per image, ``[N, …]``, in the order in which they are (last) applied;
    ``output``: what the network does; ``blocks``: for modules of which something else comes out, or that are not called, the innermost
    one around them that has such a value."""

    values: dict[Site, Tensor]
    output: Tensor
    blocks: dict[str, str]


def example_run(network: nn.Module, example: Tensor, names: set[str], of_input: set[str]) -> ExampleRun:
    """Run a frozen network on ``example[N, C, H, W]``. Of modules ``of_input`` the value is what they take in, unless that is what another
    one of ``names`` put out; blocks are looked for around ``names``.

    Which dimension is the images' is what changes with their number: nothing else tells ``[N, T, F]`` from ``[T, N, F]``, or an image from
    its windows.
    """
    values, output = _values(network, example, names, of_input)
    more, _ = _values(network, torch.cat([example, example[:1]]), names, of_input)
    per_image, fixed = {}, set(of_input)
    for site, value in values.items():
        one, other = ((*seen[site].shape,) if site in seen else () for seen in (values, more))
        if one == other:
            fixed.add(site[0])  # it does not depend on images, such as an embedding of positions
        for dim in (0, 1) if value.dim() == 3 else (0,):
            if one[dim : dim + 1] == (len(example),) and other == (*one[:dim], len(example) + 1, *one[dim + 1 :]):
                per_image[site] = value.transpose(0, dim) if dim else value
                break
    blocks = {}
    for name in names - fixed - {name for name, _ in per_image}:
        around = name
        while around := around.rpartition(".")[0]:
            if (block := per_image.get((around, "output"))) is not None:
                if block is not output:
                    blocks[name] = around
                break
    return ExampleRun(per_image, output, blocks)


def _values(
    network: nn.Module, example: Tensor, names: set[str], of_input: set[str]
) -> tuple[dict[Site, Tensor], Tensor]:
    """What every module puts out, or takes in, if that is a tensor, and what the network does."""
    values: dict[Site, Tensor] = {}
    versions: dict[Site, int] = {}  # raised by whatever works in place

    def keep(site: Site, output: object) -> None:
        values.pop(site, None)
        with suppress(DfkdError):  # several things, the first of which is no tensor
            value = main_output(output, site[0])
            values[site], versions[site] = value, value._version

    def hook_for(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: object) -> None:
            if name not in of_input:
                return keep((name, "output"), output)
            taken = first_input(inputs, named)
            own = [site for site in values if site[0] in names]
            if not any(values[site] is taken and versions[site] == taken._version for site in own):
                keep((name, "input"), taken)

        return hook

    modules = [(name, module) for name, module in network.named_modules() if name]
    handles = [module.register_forward_hook(hook_for(name), with_kwargs=True) for name, module in modules]
    try:
        with without_fast_path(), torch.no_grad():
            output = network(example.clone())
    finally:
        for handle in handles:
            handle.remove()
    overwritten = [site for site, value in values.items() if value._version != versions[site]]
    for site in overwritten:  # what the network puts out is another value than the layer did
        values[site] = values[site].clone()
    return values, output


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Within it PyTorch's attention applies its layers one after the other. In evaluation mode it may do all in one call, which no hook
    sees."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
