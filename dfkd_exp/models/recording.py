"""Recording what a network's layers take in or put out, before the non-linearity, without touching the network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.layers import OUTPUT, Layer, axes_of

Site = tuple[str, str]
"""A module path, or `OUTPUT`, and the side of the module: output or input."""


class Recorder:
    """``recorder(images)`` runs the network and returns the values of its layers, each ``[N, *shape]``, in their order; ``output`` is then
    what the network put out, and ``applied`` the layers in the order in which they were (last) applied.

    Made by `recording`, which removes the hooks again.
    """

    def __init__(self, network: nn.Module, sites: Sequence[Site]):
        self.network, self.sites = network, list(sites)
        self.output: Any = None
        self.applied: list[Site] = []
        self._seen: dict[Site, Tensor] = {}

    def __call__(self, images: Tensor) -> list[Tensor]:
        self._seen.clear()
        self.output = self._seen[OUTPUT, "output"] = self.network(images.clone())
        for name, side in self.sites:
            if (name, side) not in self._seen:
                raise DfkdError(f"the teacher has a layer {name!r}, but does not use it")
        activations, self.applied = [self._seen[site] for site in self.sites], [*self._seen]
        self._seen.clear()
        return activations


@contextmanager
def recording(network: nn.Module, layers: Sequence[Layer | str]) -> Iterator[Recorder]:
    """Record ``layers``, or the outputs of the modules at paths (or `OUTPUT`), for as long as the context lasts.

    Values are copied as they come out, since what follows may work in place (``out += shortcut``), which no module need say; so are the
    images. A layer that is applied several times is recorded the last time. Raises DfkdError for a path that is not in the network.
    """
    modules = dict(network.named_modules())
    recorder = Recorder(network, [_site(layer) for layer in layers])
    wanted = [site for site in recorder.sites if site[0] != OUTPUT]
    for name, _ in wanted:
        if name not in modules:
            raise DfkdError(f"the teacher has no layer {name!r}; its layers are: {', '.join(n for n in modules if n)}")

    def keep(site: Site, values: Tensor) -> None:
        recorder._seen.pop(site, None)
        recorder._seen[site] = values.clone()

    def attached(site: Site) -> RemovableHandle:
        if site[1] == "input":
            return modules[site[0]].register_forward_pre_hook(lambda _module, inputs: keep(site, inputs[0]))
        return modules[site[0]].register_forward_hook(lambda _module, _inputs, output: keep(site, output))

    handles = [attached(site) for site in wanted]
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def _site(layer: Layer | str) -> Site:
    return (layer, "output") if isinstance(layer, str) else (layer.name, layer.side)


def find_layers(
    network: nn.Module, example: Tensor, which: str | Sequence[str] = "all", batch_norm: str = "output"
) -> list[Layer]:
    """The layers to record, in the order of the forward pass, the logits last.

    ``which``: ``all`` layers with weights, ``dense`` (those that put out a vector), ``top`` (the logits alone), or module paths.
    ``example``: inputs ``[N, *shape]``. ``batch_norm``: whether of BatchNorm layers the ``output`` is meant or the ``input``, which is
    left out where it is another layer's output. Source: METHOD, "Notation". Raises DfkdError for an unknown path or a layer whose output
    is not one tensor per image.
    """
    modules = dict(network.named_modules())
    weighted = [name for name, module in modules.items() if name and _has_weights(module)]
    watched = [*weighted] if isinstance(which, str) else [name for name in which if name != OUTPUT]
    for name in watched:
        if name not in modules:
            close = ", ".join(weighted)
            raise DfkdError(f"metadata.layers: the teacher has no layer {name!r}; its layers with weights are: {close}")
    turned = {name for name in weighted if batch_norm == "input" and carries_statistics(modules[name])}
    values, logits = _forward_values(network, example, {*watched, *weighted}, turned)

    top = next((site for site in reversed(values) if values[site] is logits), (OUTPUT, "output"))
    if which == "top":
        chosen: list[Site] = []
    elif which in ("all", "dense"):
        chosen = [site for site, value in values.items() if which == "all" or value.dim() == 2]
    elif isinstance(which, str):
        raise DfkdError(f"metadata.layers must be all, dense, top or a list of module paths, got {which!r}")
    else:
        seen = {name for name, _ in values}
        if silent := [name for name in watched if name not in seen | turned]:
            raise DfkdError(f"metadata.layers: {silent[0]} does not put out one tensor per image; name another layer")
        chosen = [site for site in values if site[0] in which]
    shapes = {site: tuple(values.get(site, logits).shape[1:]) for site in [*(s for s in chosen if s != top), top]}
    return [Layer(name, shape, axes_of(modules.get(name), shape), side) for (name, side), shape in shapes.items()]


def inputs_of_batch_norm(network: nn.Module, example: Tensor) -> list[Layer]:
    """The inputs of all BatchNorm layers that carry running statistics, in the order of the forward pass; none if there are none."""
    modules = {name: module for name, module in network.named_modules() if carries_statistics(module)}
    values, _ = _forward_values(network, example, set(modules), set(modules))
    shapes = {name: tuple(value.shape[1:]) for (name, _), value in values.items()}
    return [Layer(name, shape, axes_of(modules[name], shape), "input") for name, shape in shapes.items()]


def carries_statistics(module: nn.Module) -> bool:
    """Whether a module is a BatchNorm with running statistics."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None


def _has_weights(module: nn.Module) -> bool:
    return any(parameter.dim() >= 1 for key, parameter in module.named_parameters(recurse=False) if key != "bias")


def _forward_values(
    network: nn.Module, example: Tensor, names: set[str], of_input: set[str]
) -> tuple[dict[Site, Tensor], Tensor]:
    """What the modules ``names`` put out, where it is one tensor per image, in the order in which they are (last) applied, and what the
    network does. Of modules ``of_input`` it is what they take in, unless that is what another of them put out."""
    values: dict[Site, Tensor] = {}
    versions: dict[Site, int] = {}  # raised by whatever works in place

    def keep(site: Site, value: object) -> None:
        if isinstance(value, Tensor) and value.shape[:1] == example.shape[:1]:
            values.pop(site, None)
            values[site], versions[site] = value, value._version

    def hook_for(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
            if name not in of_input:
                keep((name, "output"), output)
            elif not any(value is inputs[0] and versions[site] == value._version for site, value in values.items()):
                keep((name, "input"), inputs[0])

        return hook

    modules = dict(network.named_modules())
    handles = [modules[name].register_forward_hook(hook_for(name)) for name in names]
    try:
        with borrowed(network), torch.no_grad():
            logits = network(example.clone())
    finally:
        for handle in handles:
            handle.remove()
    overwritten = [site for site, value in values.items() if value._version != versions[site]]
    for site in overwritten:  # what the network puts out is another value than the layer did
        values[site] = values[site].clone()
    return values, logits


@contextmanager
def borrowed(network: nn.Module, device: torch.device | None = None) -> Iterator[nn.Module]:
    """The network, `frozen` and on ``device``, for as long as the context lasts; modes, what asks for gradients and device are then as they
    were."""
    modes = [(module, module.training) for module in network.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    home = next((parameter.device for parameter, _ in gradients), None)
    try:
        yield frozen(network).to(device)
    finally:
        network.to(home)
        for module, training in modes:
            module.training = training
        for parameter, wanted in gradients:
            parameter.requires_grad_(wanted)


def weights_digest(network: nn.Module) -> str:
    """sha256 of a network's state_dict: names, dtypes, shapes and values. Ties metadata to the teacher it describes."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights lie; the CPU if it has none."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def frozen(network: nn.Module) -> nn.Module:
    """The network itself, in evaluation mode, its parameters without gradients."""
    return network.eval().requires_grad_(False)
