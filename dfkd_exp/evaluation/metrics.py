"""Accuracy is against the labels, agreement against the teacher; one is never reported for the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfkd_exp.inputs import InputSpec


@torch.no_grad()
def predict_logits(network: nn.Module, images: Tensor, inputs: InputSpec, batch_size: int = 500) -> Tensor:
    """Logits ``[N, K]`` of a network in evaluation mode for ``images[N, C, H, W]``: uint8 pixels, or floating inputs.

    The images go to the network's device a batch at a time; the logits come back to the CPU.
    """
    network.eval()
    device = next((parameter.device for parameter in network.parameters()), images.device)
    logits = []
    for part in images.split(batch_size):
        shown = part.to(device)
        logits.append(network(shown if shown.is_floating_point() else inputs.from_pixels(shown)).float().cpu())
    return torch.cat(logits)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of ``logits[N, K]`` whose largest is the label's, in [0, 1]."""
    return int((logits.argmax(1) == labels).sum()) / len(labels)


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of images that student and teacher put into the same class, in [0, 1]."""
    return accuracy(student_logits, teacher_logits.argmax(1))
