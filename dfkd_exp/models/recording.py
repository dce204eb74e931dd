"""Recording what a network's layers put out, before the non-linearity, without touching the network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError

OUTPUT = "output"
"""The name under which the network's output is recorded where it is not itself the output of a layer with weights."""


@dataclass(frozen=True)
class Layer:
    """A recorded layer: module path, and the shape of its output for one image."""

    name: str
    shape: tuple[int, ...]

    @property
    def num_units(self) -> int:
        return torch.Size(self.shape).numel()


class Recorder:
    """``recorder(images)`` runs the network and returns the activations of ``layers``, each ``[N, *shape]``, in their order.

    Made by `recording`, which removes the hooks again.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]):
        self.network, self.names = network, list(names)
        self._seen: dict[str, Tensor] = {}

    def __call__(self, images: Tensor) -> list[Tensor]:
        self._seen.clear()
        self._seen[OUTPUT] = self.network(images)
        activations = [self._seen[name] for name in self.names]
        self._seen.clear()
        return activations


@contextmanager
def recording(network: nn.Module, names: Sequence[str]) -> Iterator[Recorder]:
    """Record the outputs of the modules at paths ``names`` (or `OUTPUT`) for as long as the context lasts.

    A layer that an in-place operation follows (``nn.ReLU(inplace=True)``) is copied as it comes out. A layer that is
    applied several times is recorded the last time. Raises DfkdError for a path that is not in the network.
    """
    modules = dict(network.named_modules())
    recorder = Recorder(network, names)
    wanted = [name for name in names if name != OUTPUT]
    for name in wanted:
        if name not in modules:
            raise DfkdError(f"the teacher has no layer {name!r}; its layers are: {', '.join(n for n in modules if n)}")
    may_overwrite = any(getattr(module, "inplace", False) for module in modules.values())

    def hook_for(name: str):
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            recorder._seen[name] = output.clone() if may_overwrite else output

        return hook

    handles = [modules[name].register_forward_hook(hook_for(name)) for name in wanted]
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def find_layers(network: nn.Module, example: Tensor, which: str | Sequence[str] = "all") -> list[Layer]:
    """The layers to record, in the order of the forward pass, the logits last.

    ``which``: ``all`` layers with weights, ``dense`` (those that put out a vector), ``top`` (the logits alone), or module paths.
    ``example``: inputs ``[N, C, H, W]``. Source: METHOD, "Notation". Raises DfkdError for an unknown path or a layer whose output
    is not one tensor per image.
    """
    weighted = [
        name
        for name, module in network.named_modules()
        if name
        and any(parameter.dim() >= 1 for key, parameter in module.named_parameters(recurse=False) if key != "bias")
    ]
    order: list[str] = []
    outputs: dict[str, Tensor] = {}

    def hook_for(name: str):
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.shape[:1] == example.shape[:1]:
                if name in order:
                    order.remove(name)
                order.append(name)
                outputs[name] = output

        return hook

    modules = dict(network.named_modules())
    watched = [*weighted] if isinstance(which, str) else [name for name in which if name != OUTPUT]
    for name in watched:
        if name not in modules:
            close = ", ".join(weighted)
            raise DfkdError(f"metadata.layers: the teacher has no layer {name!r}; its layers with weights are: {close}")
    handles = [modules[name].register_forward_hook(hook_for(name)) for name in {*watched, *weighted}]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits = network(example)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()

    top = next((name for name in reversed(order) if outputs[name] is logits), OUTPUT)
    outputs[OUTPUT] = logits
    if which == "top":
        names = [top]
    elif which in ("all", "dense"):
        names = [name for name in order if name != top and (which == "all" or outputs[name].dim() == 2)] + [top]
    elif isinstance(which, str):
        raise DfkdError(f"metadata.layers must be all, dense, top or a list of module paths, got {which!r}")
    else:
        silent = [name for name in watched if name not in order]
        if silent:
            raise DfkdError(f"metadata.layers: {silent[0]} does not put out one tensor per image; name another layer")
        names = [name for name in order if name in which and name != top] + [top]
    return [Layer(name, tuple(outputs[name].shape[1:])) for name in names]


def weights_digest(network: nn.Module) -> str:
    """sha256 of a network's state_dict: names, dtypes, shapes and values. Ties metadata to the teacher it describes."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def frozen(network: nn.Module) -> nn.Module:
    """The network itself, in evaluation mode, its parameters without gradients."""
    return network.eval().requires_grad_(False)
