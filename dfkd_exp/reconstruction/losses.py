"""What groups of images miss of their targets, and what is done to images. All losses are per group, ``[G]``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def draw_loss(values: Tensor, draw: Tensor, rectified: bool = True) -> Tensor:
    """``mean_i (relu(a_i) - relu(t_i))^2``, mean over a group's images: ``[G]``; ``values`` and ``draw``: ``[G, N, *U]``, units in any
    shape.

    Source: Lopes et al. (2017). Differs from the authors' code, which divides by the number of units twice.
    """
    difference = F.relu(values) - F.relu(draw) if rectified else values - draw
    return _mean(difference.square())


def moment_loss(own: tuple[Tensor, Tensor], mean: Tensor, std: Tensor, scale: Tensor) -> Tensor:
    """``mean_i[((mean_g a - mu)^2 + (std_g a - sd)^2) / scale_i]``: ``[G]``.

    ``own``: mean and variance of each group's images; these and ``mean``, ``std`` and ``scale``: ``[G, *F]``.
    Source: docs/method.md. Differs from DeepInversion (Yin et al. 2020, eq. 4): per class, and for any layer.
    """
    own_mean, own_variance = own
    # The root's slope is infinite at zero; where a unit never varies, nothing is asked of it by this much.
    own_std = (own_variance + 1e-8 * scale).sqrt()
    return _mean(((own_mean - mean).square() + (own_std - std).square()) / scale)


def positive(variance: Tensor) -> Tensor:
    """Variances to divide by: they may be as small as they like, and where nothing varies at all, 1e-8."""
    return variance.where(variance > 1e-30, 1e-8)


def covariance_loss(values: Tensor, directions: Tensor) -> Tensor:
    """``mean_ij (cov_g(W a)_ij - delta_ij)^2``: ``[G]``; ``values[G, M, F]``, ``directions``: ``W[G, D, F]``, along whose rows the class
    has the identity for its covariance (`dfkd_exp.metadata.directions.whitening`); over those rows that are not zeros, 0 if all are."""
    along = values @ directions.mT
    along = along - along.mean(1, keepdim=True)
    covariance = along.mT @ along / (values.shape[1] - 1)
    known = directions.abs().amax(2).gt(0).to(covariance)
    squares = (covariance - torch.diag_embed(known)).square().sum((1, 2))
    return squares / known.sum(1).square().clamp_min(1)


def _mean(values: Tensor) -> Tensor:
    """Over all but groups: ``[G, …]`` to ``[G]``. Not flattened first, which would cost the compiler its vector code."""
    return values.mean(tuple(range(1, values.dim())))


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Images ``[N, C, *space]`` blurred by a separable Gaussian of ``sigma`` pixels, edges repeated; tables have no space to blur."""
    space = images.dim() - 2
    if not space:
        return images
    radius = min(max(1, round(3 * sigma)), min(images.shape[2:]) - 1)
    steps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma).square())
    kernel = (kernel / kernel.sum()).repeat(images.shape[1], 1, *[1] * space)
    blurred = F.pad(images, [radius] * 2 * space, mode="replicate")
    convolve = (F.conv1d, F.conv2d, F.conv3d)[space - 1]
    for axis in range(2, images.dim()):
        blurred = convolve(blurred, kernel.movedim(-1, axis), groups=images.shape[1])
    return blurred
