"""What a person is shown of a transfer set."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.training.settings import Training


@dataclass(frozen=True)
class Preview:
    """By class, or as a single group where images have no labels (``labelled``), the mean
    ``means[i][*shape]`` and some images ``samples[i][≤ n, *shape]``; pixels in [0, 1]."""

    means: list[Tensor]
    samples: list[Tensor]
    labelled: bool

    def as_shown(self, settings: Training, inputs: InputSpec) -> list[Tensor]:
        """Pixels of the samples as a network in training is shown them: of one of each class, then of another of each."""
        import torch

        images = torch.stack([i for of_each in zip_longest(*self.samples) for i in of_each if i is not None])
        uniform = torch.rand(len(images), settings.augmentation.num_random, generator=torch.Generator().manual_seed(0))
        return [*inputs.to_pixels(settings.shown(images, inputs, uniform)).clamp(0, 1)]
