"""Networks as people have them, made plain: out of what wraps them, in float32, putting out logits; and what cannot be used, refused."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel
from torch.utils.hooks import RemovableHandle

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, in_brief
from dfkd_exp.inputs import described
from dfkd_exp.models.output import Output, find_output, tensors_of
from dfkd_exp.models.recording import borrowed, device_of

QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torchao.", "bitsandbytes.")
"""How the modules begin whose layers and weights are quantised."""
WITHOUT_GRADIENT = "computes without gradients (torch.no_grad, torch.inference_mode or .detach() in its forward)"
PROBES = 3
CONTRASTS = (-10, 10, 1, -1, 100, -100)
"""By which images are multiplied to find some for which a network is not without a gradient: mostly the first, beyond their range."""


def plain(network: nn.Module, name: str) -> tuple[nn.Module, list[str]]:
    """The network that is meant, and what was done: without what torch.compile and DataParallel put around it or its parts, and in
    float32, changed in place. DfkdError, which calls it ``name``, for TorchScript and quantised layers."""
    if isinstance(network, torch.jit.ScriptModule):
        raise DfkdError(
            f"{name} is TorchScript, whose layers cannot be looked at; name the class that it was made from, with the weights "
            "torch.jit.load(…).state_dict()"
        )
    network, notes = unwrapped(network)
    for parent in list(network.modules()):
        for key, child in list(parent.named_children()):
            inner, said = unwrapped(child)
            if inner is not child:
                parent._modules[key] = inner
                notes += said
    tensors: dict[str, object] = {**dict(network.named_modules()), **dict(network.named_parameters())}
    for path, part in tensors.items():
        if type(part).__module__.startswith(QUANTISED):
            raise DfkdError(
                f"{name} is quantised ({path or 'all of it'}: {type(part).__name__}), and has no gradient by which it could be trained, or "
                "images made; give it as it was before, with the weights that it was quantised from"
            )
    notes += in_float32(network)
    return network, list(dict.fromkeys(notes))


def unwrapped(network: nn.Module) -> tuple[nn.Module, list[str]]:
    """What a wrapper holds, and which wrappers there were; the network itself where there is none."""
    notes: list[str] = []
    while True:
        if (compiled := dict(network.named_children()).get("_orig_mod")) is not None:
            inner, name = compiled, "torch.compile"
        elif isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel):
            inner, name = network.module, type(network).__name__
        else:
            return network, notes
        network = inner
        notes.append(f"taken out of {name}")


def in_float32(network: nn.Module) -> list[str]:
    """Convert the network, in place, and say what was."""
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    others = sorted({str(t.dtype) for t in tensors if t.dtype.is_floating_point and t.dtype != torch.float32})
    if others:
        network.float()
    return [f"{', '.join(others).replace('torch.', '')} converted to float32"] if others else []


def attach_output(
    network: nn.Module, image_shape: tuple[int, ...], num_classes: int | None, name: str, entry: str | None = None, say: str = "",
    known: Output | None = None, at_least: int | None = None,
) -> tuple[Output, RemovableHandle]:  # fmt: skip
    """Let ``network`` put out logits from now on, in the place of what it did: as is ``known`` or `find_output` says, by what it answers
    to noise, together and alone. It is left in the mode that it was in; layers that wait for their first
    inputs are made.

    Raises DfkdError, which calls it ``name``, if it puts out nothing that could be logits.
    """
    if (before := output_of(network)) is not None:
        for number, hook in list(network._forward_hooks.items()):
            if hook is before:
                del network._forward_hooks[number]
    images = torch.rand(PROBES, *image_shape, generator=torch.Generator().manual_seed(0)).to(device_of(network))
    _make_lazy(network, images, name)
    with borrowed(network):
        returned = _answer(network, images, name)
        try:
            output = known or find_output(returned, PROBES, num_classes, entry, say, at_least)
            output.logits(returned, PROBES)
            alone = _answer(network, images[:1], f"{name}, which takes {PROBES} images,")
            output.logits(alone, 1)
        except DfkdError as error:
            raise DfkdError(str(error) if str(error).startswith(name) else f"{name} {error}") from error
    return output, network.register_forward_hook(output)


def take_output(network: nn.Module, entry: str | int) -> nn.Module:
    """The network itself, which from now on puts out that ``entry``, a key or an index, of the dict or tuple that it returns."""
    name = str(entry)

    def taken(_network: nn.Module, _inputs: object, returned: object) -> Tensor:
        entries = tensors_of(returned)
        if name not in entries and "" not in entries:
            raise DfkdError(
                f"take_output: the network has no entry {brief(name)}; its entries are {brief(', '.join(entries))}"
            )
        return entries.get(name, entries.get(""))  # type: ignore[return-value]

    unwrapped(network)[0].register_forward_hook(taken)
    return network


def output_of(network: nn.Module) -> Output | None:
    """What `attach_output` has found; None if it was not called."""
    return next((hook for hook in network._forward_hooks.values() if isinstance(hook, Output)), None)


@contextmanager
def as_classifier(
    network: nn.Module,
    example: Tensor,
    num_classes: int | None = None,
    name: str = "the teacher",
    in_place: bool = False,
    at_least: int | None = None,
) -> Iterator[nn.Module]:
    """The network as one that takes images like ``example[N, *shape]`` and puts out logits, for as long as the context lasts: what a
    wrapper holds, in float32. Nothing of it is changed, unless it is to be changed ``in_place``, so that it can be trained.

    ``num_classes``: if they are known; ``at_least``: as many were seen. Raises DfkdError for a network that puts out no logits.
    """
    network, _ = unwrapped(network)
    if output_of(network) is not None:
        yield network
        return
    if not in_place and _changed_by_plain(network):
        network = copy.deepcopy(network)
    network, _ = plain(network, name)
    shape, say = tuple(example.shape[1:]), "dfkd_exp.take_output(network, {!r})"
    _, handle = attach_output(network, shape, num_classes, name, say=say, at_least=at_least)
    try:
        yield network
    finally:
        handle.remove()


def num_logits(network: nn.Module, example: Tensor) -> int:
    """How many classes a classifier tells apart."""
    with borrowed(network), torch.no_grad():
        return network(example.to(device_of(network))).shape[1]


def _changed_by_plain(network: nn.Module) -> bool:
    others = any(
        t.dtype.is_floating_point and t.dtype != torch.float32 for t in [*network.parameters(), *network.buffers()]
    )
    return others or any(unwrapped(module)[0] is not module for module in network.modules())


def require_gradient(network: nn.Module, example: Tensor, name: str) -> None:
    """Raise DfkdError, which calls it ``name``, if ``network`` tells nothing of how its logits follow from images like ``example``."""
    # Of a head that begins as zeros, as many do, the gradient is zero too: another is looked at in its place.
    if not _has_gradient(network, example, name) and not _has_gradient(_without_zeros(network), example, name):
        raise DfkdError(
            f"{name} has a gradient that is zero everywhere (torch.round, torch.sign or a comparison in its forward, as of quantisation), "
            "and by its gradient images are reconstructed; take that out of it, or let it pass gradients on"
        )


def _has_gradient(network: nn.Module, example: Tensor, name: str) -> bool:
    """Whether it is more than zeros for images of any contrast, for which other units are active."""
    return any(bool(_gradient(network, contrast * example, name).any()) for contrast in CONTRASTS)


def _gradient(network: nn.Module, images: Tensor, name: str) -> Tensor:
    """By the images, of a sum of the logits with a weight for each class; DfkdError if they have none."""
    with borrowed(network), torch.enable_grad():
        images = images.detach().requires_grad_(True)
        try:
            logits = network(images.clone())
        except Exception as error:  # of somebody's own code
            raise DfkdError(
                f"{name} cannot take images with values beyond their range, such as they have on the way while they are reconstructed: "
                f"{in_brief(error)}; take what refuses them out of its forward"
            ) from error
        if not logits.requires_grad:
            raise DfkdError(
                f"{name} {WITHOUT_GRADIENT}, and by its gradient images are reconstructed; take that out of it"
            )
        weights = torch.arange(1.0, logits.shape[1] + 1, device=logits.device)
        [gradient] = torch.autograd.grad((logits * weights).sum(), images, materialize_grads=True)
        return gradient


def _without_zeros(network: nn.Module) -> nn.Module:
    """A copy whose parameters that are all zeros are noise."""
    network, generator = copy.deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network


def _make_lazy(network: nn.Module, images: Tensor, name: str) -> None:
    """Let layers that wait for their first inputs see them."""
    if not any(map(is_lazy, [*network.parameters(), *network.buffers()])):
        return
    modes = [(module, module.training) for module in network.modules()]
    with torch.no_grad():
        _answer(network.eval(), images, name)
    for module, training in modes:
        module.training = training


def _answer(network: nn.Module, images: Tensor, name: str) -> object:
    try:
        with torch.enable_grad():
            return network(images.clone().requires_grad_(True).clone())
    except DfkdError:
        raise
    except Exception as error:  # of somebody's own code
        shape = tuple(images.shape[1:])
        what = described(shape) if len(images) > 1 else f"a single one of the {described(shape)}"
        raise DfkdError(
            f"{name} cannot take {what}: {in_brief(error)}{way_out(error, network, len(shape) == 3)}"
        ) from error


def way_out(error: BaseException, network: nn.Module | None = None, of_images: bool = True) -> str:
    """What a person can do about what their network raised, to follow it in a message; empty where that is not known."""
    text = str(error)
    if "indices" in text and network is not None and any(isinstance(m, nn.Embedding) for m in network.modules()):
        return "; it looks up tokens, which are whole numbers without a gradient: give its part behind the embedding"
    if "CUDA" in text or "NVIDIA" in text or "same device" in text:
        return "; take .cuda() and .to('cuda') out of it: trainer.accelerator says where it works"
    if "dtype" in text or "scalar type" in text or "Input type" in text:
        return "; it converts its images or features to another type: take .half() and its like out of its forward"
    if "is invalid for input of size" in text:
        return "; its forward assumes a batch size, or images of another size (data.size, data.pad): x.flatten(1) assumes neither"
    if isinstance(error, TypeError) and "forward()" in text:
        return "; it is called with images alone: give what else its forward takes a default"
    if isinstance(error, FileNotFoundError):
        return "; relative paths begin in the folder that the command is run from"
    if network is None:
        return ""
    if wanted := re.search(r"to have (\d+) channels?, but got", text):
        flag = f"data.channels={wanted[1]}, or change " if of_images and wanted[1] in ("1", "3") else ""
        return f"; it takes {wanted[1]} channels: {flag}the network's arguments"
    return f"; change {'data.pad or data.size, or ' if of_images else ''}the network's arguments"
