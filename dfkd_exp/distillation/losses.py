"""What a network in training minimises, and the augmentation of what it is shown."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd_exp.inputs import InputSpec


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``-T^2 sum_k softmax(z_t/T)_k log softmax(z_s/T)_k``, mean over the batch; logits ``[N, K]``, a scalar.

    Source: Hinton, Vinyals and Dean (2015), Sec. 2; the factor T^2 keeps gradients of one size at every temperature.
    """
    log_probabilities = F.log_softmax(student_logits / temperature, dim=1)
    probabilities = F.softmax(teacher_logits / temperature, dim=1)
    return -(temperature**2) * (probabilities * log_probabilities).sum(1).mean()


def random_affine(images: Tensor, inputs: InputSpec, degrees: float, shift: float, scale: float) -> Tensor:
    """Each of ``images[N, C, H, W]`` turned, shifted and scaled by its own small random amounts; outside is pixel 0."""
    count = len(images)
    uniform = torch.rand(4, count, device=images.device) * 2 - 1
    angle = uniform[0] * math.radians(degrees)
    size = 1 + uniform[1] * scale
    cosine, sine = angle.cos() * size, angle.sin() * size
    # Coordinates run from -1 to 1 along both sides, so a share of the image's size is twice as much, and the sides of an
    # image that is not square have units of different length.
    aspect = images.shape[-1] / images.shape[-2]
    rows = [
        torch.stack([cosine, -sine / aspect, 2 * shift * uniform[2]], 1),
        torch.stack([sine * aspect, cosine, 2 * shift * uniform[3]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    low, _ = inputs.bounds(images)
    return F.grid_sample(images - low, grid, align_corners=False) + low
