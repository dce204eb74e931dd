"""A teacher and images small enough for any test: three classes of 6x6 pixels that differ in where they are bright."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction.problem import Problem
from dfkd_exp.reconstruction.settings import Reconstruction

CLASSES = 3
INPUTS = InputSpec((1, 6, 6), (0.0,), (1.0,))


def toy_teacher(seed: int = 0) -> nn.Sequential:
    """A convolution (64 units), a hidden layer (8) and the logits (3), untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, CLASSES)
        ).eval()


def dropout_teacher(seed: int = 0) -> nn.Sequential:
    """A hidden layer (8) and the logits, with dropout before both; untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Dropout(0.2), nn.Linear(36, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, CLASSES)]
        return nn.Sequential(nn.Flatten(), *layers).eval()


def normalised_teacher(seed: int = 0) -> nn.Sequential:
    """Two convolutions with BatchNorm, whose running statistics are those of the toy images, and the logits; untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, momentum=None),
            nn.ReLU(), nn.Flatten(), nn.Linear(24, CLASSES),
        )  # fmt: skip
        network(toy_images()[0])
    return network.eval()


def toy_images(per_class: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1], ``[3 * per_class, 1, 6, 6]``, classes in turn: two bright rows among noise, per class others."""
    labels = torch.arange(CLASSES * per_class) % CLASSES
    pixels = 0.4 * torch.rand(len(labels), *INPUTS.shape, generator=torch.Generator().manual_seed(seed))
    for label in range(CLASSES):
        pixels[labels == label, :, 2 * label : 2 * label + 2] += 0.6
    return pixels, labels


def problem(teacher: nn.Module, metadata: Metadata, settings: Reconstruction, *rest, **options) -> Problem:
    """The problem of making images of a teacher's metadata."""
    return Problem(frozen(teacher), metadata.resolved(teacher), settings, *rest, **options)
