"""A teacher and images small enough for any test: three classes of 6x6 pixels that differ in where they are bright."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfkd_exp.inputs import InputSpec

CLASSES = 3
INPUTS = InputSpec((1, 6, 6), (0.0,), (1.0,))


def toy_teacher(seed: int = 0) -> nn.Sequential:
    """A convolution (64 units), a hidden layer (8) and the logits (3), untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, CLASSES)
        ).eval()


def toy_images(per_class: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1], ``[3 * per_class, 1, 6, 6]``, classes in turn: two bright rows among noise, per class others."""
    labels = torch.arange(CLASSES * per_class) % CLASSES
    pixels = 0.4 * torch.rand(len(labels), *INPUTS.shape, generator=torch.Generator().manual_seed(seed))
    for label in range(CLASSES):
        pixels[labels == label, :, 2 * label : 2 * label + 2] += 0.6
    return pixels, labels
