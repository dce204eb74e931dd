"""What the student is shown: reconstructions, or one of the baselines they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dfkd_exp.data.images import LabelledImages, class_balanced
from dfkd_exp.distillation.settings import FromNoise
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec


@dataclass(frozen=True)
class Shown:
    """Images for the student, not loaded before they are needed.

    ``load()``: images ``[N, C, H, W]``, uint8 pixels or floating inputs, and labels ``[N]`` or None. ``identity``: JSON-able,
    equal for equal images. ``free``: made by the student's side, so that some can be held out at no loss.
    ``num_bytes``: what had to be published, beside the teacher, for the student to see them.
    """

    title: str
    identity: dict[str, Any]
    load: Callable[[], tuple[Tensor, Tensor | None]]
    free: bool
    num_bytes: int


def held_out(count: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Random indices of ``count`` images to train on and to hold out, each in ascending order."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = round(count * share)
    return order[held:].sort().values, order[:held].sort().values


def noise_images(settings: FromNoise, inputs: InputSpec, count: int, seed: int) -> Tensor:
    """``count`` images of clamped Gaussian pixels, ``[N, C, H, W]``, as the network takes them."""
    noise = torch.randn(count, *inputs.shape, generator=torch.Generator().manual_seed(seed))
    return inputs.from_pixels((settings.mean + settings.std * noise).clamp_(0, 1))


def images_in_bytes(
    train: LabelledImages, num_classes: int, num_bytes: int, bytes_per_image: int, seed: int
) -> LabelledImages:
    """As many training images as fit into ``num_bytes``, classes balanced. Raises DfkdError if not one per class fits."""
    count = min(num_bytes // bytes_per_image, len(train))
    if count < num_classes:
        raise DfkdError(
            f"the metadata's {num_bytes:,} bytes hold only {count} images of {bytes_per_image:,} bytes, fewer than one per class; "
            "source=same_bytes needs larger metadata"
        )
    return train.select(class_balanced(train.labels, count, num_classes, torch.Generator().manual_seed(seed)))
