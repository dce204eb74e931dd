"""Convolutions with the channels side by side in memory, in which a processor takes less time, for the same values up to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dfkd_exp.models.recording import borrowed


def takes_channels_last(network: nn.Module, example: Tensor) -> bool:
    """Whether a network convolves images, and goes on computing where what it convolves lies so: one that takes a `view` of it does not.

    ``example``: inputs ``[N, *shape]`` on the network's device.
    """
    if example.dim() != 4 or not _weights(network):
        return False
    with _arranged(network), borrowed(network), torch.no_grad():
        try:
            network(example.clone(memory_format=torch.channels_last))
        except RuntimeError:
            return False
    return True


@contextmanager
def channels_last(network: nn.Module, example: Tensor) -> Iterator[nn.Module]:
    """The network, on a processor with its weights so, if it takes them, for as long as the context lasts."""
    if example.device.type == "cpu" and takes_channels_last(network, example):
        with _arranged(network):
            yield network
    else:
        yield network


@contextmanager
def _arranged(network: nn.Module) -> Iterator[None]:
    weights = _weights(network)
    before = [weight.data.stride() for weight in weights]
    try:
        arrange(network)
        yield
    finally:
        for weight, strides in zip(weights, before, strict=True):
            weight.data = weight.data.new_empty_strided(weight.shape, strides).copy_(weight.data)


def arrange(network: nn.Module) -> None:
    """Lay the weights of convolutions so that what these put out lies with the channels side by side. By their strides alone: of a weight
    for one channel, as of grey images, ``contiguous(memory_format=torch.channels_last)`` is the weight itself, which says neither."""
    for weight in _weights(network):
        _, channels, height, width = weight.shape
        strides = (channels * height * width, 1, channels * width, channels)
        weight.data = weight.data.new_empty_strided(weight.shape, strides).copy_(weight.data)


def _weights(network: nn.Module) -> list[nn.Parameter]:
    own = (module._parameters.get("weight") for module in network.modules() if isinstance(module, nn.Conv2d))
    return [weight for weight in own if weight is not None]
