"""Probes: images of nothing, by the answers to which a network is known to be the one that somebody else has, without its code."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.repeatable import differ

PROBES = 4


def probe_pixels(inputs: InputSpec) -> Tensor:
    """The pixels of the probes, uint8 ``[4, *shape]``: the bytes of SHAKE-256 of the ASCII text ``dfkd-probe``, the same everywhere."""
    size = PROBES * math.prod(inputs.shape)
    content = bytearray(hashlib.shake_256(b"dfkd-probe").digest(size))
    return torch.frombuffer(content, dtype=torch.uint8).view(PROBES, *inputs.shape)


def answers(network: nn.Module, inputs: InputSpec) -> list[list[float]]:
    """What a network puts out for the probes, in evaluation mode: logits ``[4][K]``."""
    return predict_logits(network, probe_pixels(inputs), inputs).tolist()


def check_answers(network: nn.Module, inputs: InputSpec, expected: Sequence[Sequence[float]], name: str) -> None:
    """Raise DfkdError unless ``network`` answers the probes as is ``expected``; ``name``: what it is, for people."""
    missed = differ(torch.tensor(answers(network, inputs)), torch.tensor(expected))
    if missed is not None:
        raise DfkdError(
            f"{name} is not the network that its owner has, though the weights are the same: for {PROBES} probe images its outputs are "
            f"others, by {missed:.1%} of their range; take the owner's code, arguments and versions of libraries"
        )
