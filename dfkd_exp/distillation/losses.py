"""What a network in training minimises, and the augmentation of what it is shown."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd_exp.inputs import InputSpec


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``-T^2 sum_k softmax(z_t/T)_k log softmax(z_s/T)_k``, mean over the batch; logits ``[N, K]``, a scalar.

    Source: Hinton, Vinyals and Dean (2015), Sec. 2; the factor T^2 keeps gradients of one size at every temperature. At least in
    float32: at a temperature all probabilities are nearly alike, and bfloat16 cannot tell what they differ by, so that a student that
    is close to its teacher drifts away from it.
    """
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_probabilities = F.log_softmax(student_logits.to(dtype) / temperature, dim=1)
    probabilities = F.softmax(teacher_logits.to(dtype) / temperature, dim=1)
    return -(temperature**2) * (probabilities * log_probabilities).sum(1).mean()


def random_affine(
    images: Tensor,
    inputs: InputSpec,
    degrees: float,
    shift: float,
    scale: float,
    uniform: Tensor | None = None,
) -> Tensor:
    """Each of ``images[N, C, H, W]`` turned, scaled and shifted by small amounts, as its row of ``uniform[N, 4]``, random numbers
    from 0 to 1, says; outside is pixel 0."""
    height, width = images.shape[-2:]
    uniform = torch.rand(len(images), 4) if uniform is None else uniform
    uniform = (uniform * 2 - 1).to(images.device)
    angle = uniform[:, 0] * math.radians(degrees)
    size = 1 + uniform[:, 1] * scale
    cosine, sine = angle.cos() * size, angle.sin() * size
    # Coordinates run from -1 to 1 along both sides, so a share of the image's size is twice as much, and the sides of an
    # image that is not square have units of different length.
    aspect = width / height
    by_column, by_row, moved = (
        torch.stack(pair, 1)[..., None, None]
        for pair in ((cosine, sine * aspect), (-sine / aspect, cosine), (2 * shift * uniform[:, 2:]).unbind(1))
    )
    # What affine_grid computes, by products of numbers in the place of one small product of matrices per image.
    grid = torch.addcmul(by_row * _centres(height, images)[:, None] + moved, by_column, _centres(width, images))
    low, _ = inputs.bounds(images)
    return F.grid_sample(images - low, grid.permute(0, 2, 3, 1), align_corners=False).add_(low)


def _centres(count: int, like: Tensor) -> Tensor:
    """The centres of ``count`` pixels along a side that runs from -1 to 1."""
    return (2 * torch.arange(count, device=like.device) + 1) / count - 1
