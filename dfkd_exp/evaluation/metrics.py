"""Accuracy is against the labels, agreement against the teacher; one is never reported for the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.float32 import exact
from dfkd_exp.models.recording import borrowed


@torch.no_grad()
@exact()
def predict_logits(network: nn.Module, pixels: Tensor, inputs: InputSpec, batch_size: int | None = None) -> Tensor:
    """Logits ``[N, K]`` of a network in evaluation mode for images whose ``pixels[N, *shape]`` are uint8, or floating in [0, 1].

    The images go to the network's device a batch at a time (left out: as many as `InputSpec.images_at_once` says); the logits
    come back to the CPU.
    """
    like = next(network.parameters(), torch.empty(0, device=pixels.device))
    parts = pixels.split(batch_size or inputs.images_at_once)
    with borrowed(network):
        logits = [network(inputs.from_pixels(part.to(like.device)).to(like.dtype)).float().cpu() for part in parts]
    return torch.cat(logits)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of ``logits[N, K]`` whose largest is the label's, in [0, 1]."""
    return int((logits.argmax(1) == labels).sum()) / len(labels)


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of images that student and teacher put into the same class, in [0, 1]."""
    return accuracy(student_logits, teacher_logits.argmax(1))
