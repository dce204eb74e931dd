"""Recording what a network's layers take in or put out, before the non-linearity, without touching the network."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.hooks import RemovableHandle

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.example_run import example_run, without_fast_path
from dfkd_exp.models.layers import OUTPUT, TOKENS, Layer, Site, axes_of, first_input, main_output


class Recorder:
    """``recorder(images)`` runs the network and returns the values of its layers, each ``[N, *shape]``, in their order; ``output`` is then
    what the network put out, and ``applied`` the layers in the order in which they were (last) applied.

    Made by `recording`, which removes the hooks again.
    """

    def __init__(self, network: nn.Module, layers: Sequence[Layer | str], copied: set[Site] | None = None):
        self.network, self.sites, self.copied = network, [_site(layer) for layer in layers], copied
        self.output: Any = None
        self.applied: list[Site] = []
        self._tokens = {
            _site(layer): layer.shape[0] for layer in layers if isinstance(layer, Layer) and layer.axes == TOKENS
        }
        self.seen: dict[Site, Tensor] = {}
        self._versions: dict[Site, int] = {}

    def __call__(self, images: Tensor) -> list[Tensor]:
        self.run(images)
        for name, side in self.sites:
            if (name, side) not in self.seen:
                raise DfkdError(f"the teacher has a layer {name!r}, but does not use it")
        if self.copied is not None and (overwritten := self._overwritten()):
            self.copied |= overwritten
            return self(images)
        activations, self.applied = [self.seen[site] for site in self.sites], [*self.seen]
        second = self._images_second(images)
        self.seen.clear()
        return [
            values.transpose(0, 1) if site in second else values
            for site, values in zip(self.sites, activations, strict=True)
        ]

    def run(self, images: Tensor) -> None:
        self.seen.clear()
        with without_fast_path():
            self.output = self.seen[OUTPUT, "output"] = self.network(images.clone())

    def keep(self, site: Site, value: object) -> None:
        """Take what a module puts out or takes in."""
        tensor = main_output(value, site[0])
        self.seen.pop(site, None)
        self.seen[site] = tensor.clone() if self.copied is None or site in self.copied else tensor
        self._versions[site] = _version(tensor)

    def _overwritten(self) -> set[Site]:
        kept = self.seen.keys() - (self.copied or set()) - {(OUTPUT, "output")}
        return {site for site in kept if _version(self.seen[site]) != self._versions[site]}

    def _images_second(self, images: Tensor) -> set[Site]:
        """The layers that put out ``[tokens, N, features]``, as recurrent nets and transformers do unless they are told otherwise. Where
        there are as many tokens as images, another number of images tells."""
        if len(images) in self._tokens.values():
            count = next(number for number in itertools.count(2) if number not in self._tokens.values())
            images, output = images[torch.arange(count) % len(images)], self.output
            self.run(images)
            self.output = output
        return {site for site, tokens in self._tokens.items() if self.seen[site].shape[:2] == (tokens, len(images))}


@contextmanager
def recording(network: nn.Module, layers: Sequence[Layer | str], copied: set[Site] | None = None) -> Iterator[Recorder]:
    """Record ``layers``, or the outputs of the modules at paths (or `OUTPUT`), for as long as the context lasts.

    Values are copied as they come out, since what follows may work in place (``out += shortcut``), which no module need say; so are the
    images. ``copied``: those that must be (`overwritten`), where it is known; others are then not to be written to. A layer that is applied
    several times is recorded the last time. Raises DfkdError for a path that is not in the network.
    """
    modules = dict(network.named_modules())
    recorder = Recorder(network, layers, copied)
    wanted = [site for site in recorder.sites if site[0] != OUTPUT]
    for name, _ in wanted:
        if name not in modules:
            raise DfkdError(f"the teacher has no layer {name!r}; its layers are: {', '.join(n for n in modules if n)}")
    handles = [_hooked(modules[site[0]], site, recorder.keep) for site in wanted]
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def _hooked(module: nn.Module, site: Site, keep: Callable[[Site, object], None]) -> RemovableHandle:
    if site[1] == "output":
        return module.register_forward_hook(lambda _module, _inputs, output: keep(site, output))

    def before(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        keep(site, first_input(inputs, named))

    return module.register_forward_pre_hook(before, with_kwargs=True)


def _version(tensor: Tensor) -> int:
    """Raised by whatever works in place; where PyTorch keeps no count, 0."""
    return 0 if tensor.is_inference() else tensor._version


def overwritten(network: nn.Module, layers: Sequence[Layer], images: Tensor) -> set[Site]:
    """The layers whose values are not what they were, once the network is done, since something has worked in place."""
    with recording(network, layers) as copies, recording(network, layers, copied=set()) as references:
        copies.run(images)
        return {site for site, value in references.seen.items() if not value.equal(copies.seen[site])}


def _site(layer: Layer | str) -> Site:
    return (layer, "output") if isinstance(layer, str) else (layer.name, layer.side)


def find_layers(
    network: nn.Module, example: Tensor, which: str | Sequence[str] = "all", batch_norm: str = "output"
) -> list[Layer]:
    """The layers to record, in the order of the forward pass, the logits last.

    ``which``: ``all`` layers with weights, ``dense`` (those that put out a vector), ``top`` (the logits alone), or module paths. For a
    layer with weights that does not put out one tensor per image, or is not called, the block around it stands.
    ``example``: inputs ``[N, *shape]``. ``batch_norm``: whether of BatchNorm layers the ``output`` is meant or the ``input``, which is
    left out where it is another layer's output. Raises DfkdError for an unknown path or a layer whose output
    is not one tensor per image.
    """
    modules = dict(network.named_modules())
    weighted = [name for name, module in modules.items() if name and _has_weights(name, module)]
    named = [] if isinstance(which, str) else [name for name in which if name != OUTPUT]
    for name in named:
        if name not in modules:
            close = ", ".join(weighted)
            raise DfkdError(f"metadata.layers: the teacher has no layer {name!r}; its layers with weights are: {close}")
    turned = {name for name in weighted if batch_norm == "input" and carries_statistics(modules[name])}
    watched = {*weighted, *named}
    with borrowed(network):
        run = example_run(network, example, watched, turned)
    watched |= {run.blocks[name] for name in weighted if name in run.blocks}
    values = {site: value for site, value in run.values.items() if site[0] in watched}

    top = next((site for site in reversed(values) if values[site] is run.output), (OUTPUT, "output"))
    if which == "top":
        chosen: list[Site] = []
    elif which in ("all", "dense"):
        chosen = [site for site, value in values.items() if which == "all" or value.dim() == 2]
    elif isinstance(which, str):
        raise DfkdError(f"metadata.layers must be all, dense, top or a list of module paths, got {which!r}")
    else:
        recorded = {name for name, _ in values}
        if silent := [name for name in named if name not in recorded | turned]:
            other = f"{run.blocks[silent[0]]}, the block around it" if silent[0] in run.blocks else "another layer"
            raise DfkdError(f"metadata.layers: {silent[0]} does not put out one tensor per image; name {other}")
        chosen = [site for site in values if site[0] in which]
    shapes = {site: tuple(values.get(site, run.output).shape[1:]) for site in [*(s for s in chosen if s != top), top]}
    return [Layer(name, shape, axes_of(modules.get(name), shape), side) for (name, side), shape in shapes.items()]


def inputs_of_batch_norm(network: nn.Module, example: Tensor) -> list[Layer]:
    """The inputs of all BatchNorm layers that carry running statistics, in the order of the forward pass; none if there are none."""
    modules = {name: module for name, module in network.named_modules() if carries_statistics(module)}
    with borrowed(network):
        run = example_run(network, example, set(modules), set(modules))
    shapes = {name: tuple(value.shape[1:]) for (name, side), value in run.values.items() if side == "input"}
    return [Layer(name, shape, axes_of(modules[name], shape), "input") for name, shape in shapes.items()]


def carries_statistics(module: nn.Module) -> bool:
    """Whether a module is a BatchNorm with running statistics."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None


def _has_weights(name: str, module: nn.Module) -> bool:
    """Whether it has parameters of its own other than a bias. A weight that is computed, by `torch.nn.utils.parametrizations`, is the
    layer's, and not that of the modules that compute it."""
    if "parametrizations" in name.split("."):
        return False
    own = (key for key, parameter in module.named_parameters(recurse=False) if parameter.dim() >= 1)
    return is_parametrized(module) or any(key != "bias" for key in own)


@contextmanager
def borrowed(network: nn.Module, device: torch.device | None = None) -> Iterator[nn.Module]:
    """The network, `frozen` and on ``device``, for as long as the context lasts; modes, what asks for gradients and device are then as they
    were."""
    modes = [(module, module.training) for module in network.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    home = next((parameter.device for parameter, _ in gradients), None)
    try:
        yield frozen(network) if device is None else frozen(network).to(device)
    finally:
        if device is not None:
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
