"""Whether a network is its weights and its images, and nothing else: what is published of any other is not the network of its owner."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief
from dfkd_exp.models.recording import borrowed, device_of

TOLERANCE = 1e-3
"""By how much of the answers' range two of one network may differ: rounding is a hundredth of it, dropout many times more."""


def differ(found: Tensor, wanted: Tensor) -> float | None:
    """By how much of the range of the ``wanted`` answers others lie beside them at most; None if that is rounding."""
    missed = float((found - wanted).abs().max() / (wanted.max() - wanted.min()).clamp_min(1e-6))
    return None if missed <= TOLERANCE else missed


def require_repeatable(network: nn.Module, images: Tensor, name: str) -> Tensor:
    """What a network answers to images, in evaluation mode; DfkdError, which calls it ``name``, where it answers otherwise the second time,
    or changes what it would be saved as."""
    images = images.to(device_of(network))
    with borrowed(network), torch.no_grad():
        before = {key: value.clone() for key, value in network.state_dict().items()}
        first, second = network(images.clone()), network(images.clone())
        after = network.state_dict()
    changed = [key for key, value in before.items() if not torch.equal(value, after[key])]
    if changed:
        network.load_state_dict(before)
        raise DfkdError(
            f"{name} changes {brief(', '.join(changed))} in evaluation mode, so that its weights are others after each image: take "
            ".train(), and what else writes to them, out of its forward"
        )
    if differ(second, first) is not None:
        raise DfkdError(
            f"{name} answers the same images otherwise each time in evaluation mode: what it draws at random, such as "
            "F.dropout(x, 0.5), must ask self.training (F.dropout(x, 0.5, self.training), or nn.Dropout)"
        )
    return first


def draws_its_weights(network: nn.Module, again: nn.Module) -> bool:
    """Whether a network that is made again from other random numbers has other parameters, as fresh ones are; or none at all."""
    pairs = [*zip(network.parameters(), again.parameters(), strict=True)]
    return not pairs or any(not torch.equal(one, other) for one, other in pairs)


def require_whole(network: nn.Module, again: nn.Module, images: Tensor, name: str) -> None:
    """DfkdError if ``again``, which was made anew, is another network once it has the weights: then there are some that no state_dict has.
    Both are to be `require_repeatable`."""
    again.load_state_dict(network.state_dict())
    if differ(*(require_repeatable(each, images, name) for each in (again, network))) is not None:
        raise DfkdError(
            f"{name} has layers or numbers that its state_dict() does not have, so that they cannot be saved with it: hold layers in "
            "nn.ModuleList in the place of a list, and tensors in register_buffer"
        )
