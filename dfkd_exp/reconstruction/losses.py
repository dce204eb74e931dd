"""What a reconstruction minimises: the match with the metadata, and priors on images. All per group, ``[G]``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Targets = list[tuple[Tensor, ...]]
"""What groups are to match, per recorded layer: tensors ``[G, …, *U]``, the units in any shape, that of the activations."""


def sample_loss(
    activations: list[Tensor], targets: Targets, relu: bool = True, weights: list[float] | None = None
) -> Tensor:
    """``sum_l w_l / U_l sum_i (relu(a_l,i) - relu(t_l,i))^2``, mean over a group's images: ``[G]``.

    ``activations``: ``[G, N, *U_l]`` per layer, units in any shape, logits divided by the temperature; ``targets``: for each layer the
    draws, of the same shape, of the blocks that hold it, whose errors add up. ``weights``: w, 1 if left out.
    Source: METHOD, table "What the paper keeps"; w is 1 for Gaussians and U_l, so that units are summed, for records.
    Differs from the authors' code, which divides by U_l twice.
    """
    total = activations[0].new_zeros(activations[0].shape[0])
    for index, (values, draws) in enumerate(zip(activations, targets, strict=True)):
        for wanted in draws:
            difference = F.relu(values) - F.relu(wanted) if relu else values - wanted
            total = total + _mean(difference.square()) * (weights[index] if weights else 1.0)
    return total


class _GroupMoments(torch.autograd.Function):
    """Mean and variance over dimension 1. On a CPU ``torch.var_mean`` takes five times as long, for want of vector code."""

    @staticmethod
    def forward(ctx, values: Tensor) -> tuple[Tensor, Tensor]:
        mean = values.mean(1)
        variance = (values - mean.unsqueeze(1)).square_().sum(1) / (values.shape[1] - 1)
        ctx.save_for_backward(values, mean)
        return mean, variance

    @staticmethod
    def backward(ctx, mean_grad: Tensor, variance_grad: Tensor) -> Tensor:
        values, mean = ctx.saved_tensors
        count = values.shape[1]
        slope = variance_grad * (2 / (count - 1))
        constant = mean_grad / count - slope * mean
        return torch.addcmul(constant.unsqueeze(1), values, slope.unsqueeze(1))


def group_moments(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Means and unbiased variances of groups: ``[G, N, *U]`` to ``[G, *U]`` each. Can be differentiated once."""
    return _GroupMoments.apply(activations)


def moment_loss(
    activations: list[Tensor],
    means: list[Tensor],
    deviations: list[Tensor],
    logits: Tensor | None = None,
    logits_weight: float = 1.0,
    shrinkage: float = 1.0,
) -> Tensor:
    """``sum_l mean_i[((mean_g a - mu)^2 + (std_g a - sd)^2) / v_i]``, plus the sampled logits' term: ``[G]``.

    ``v_i = (1 - shrinkage) sd_i^2 + shrinkage mean_i sd^2``: METHOD's formula at 1; below it, a unit that hardly varies in
    the data, such as a pixel of the background, is held the more tightly.

    ``activations``: ``[G, N, *U_l]``, each group N images of one class; ``means`` and ``deviations``: ``[G, *U_l]``;
    ``logits``: draws ``[G, N, K]``, compared image by image with the last layer, divided by its mean variance too.
    Source: METHOD, "Beyond the paper". Differs from DeepInversion (Yin et al. 2020, eq. 4): per class, for any layer.
    """
    total = activations[0].new_zeros(activations[0].shape[0])
    for values, mean, std in zip(activations, means, deviations, strict=True):
        own_mean, own_variance = group_moments(values)
        # The root's slope is infinite at zero; where a unit never varies, nothing is asked of it by this much.
        own_std = (own_variance + 1e-8).sqrt()
        error = (own_mean - mean).square() + (own_std - std).square()
        variance = std.square()
        shared = _mean(variance).view(-1, *[1] * (variance.dim() - 1))
        scale = (variance + shrinkage * (shared - variance)).clamp_min(1e-8)
        total = total + _mean(error / scale)
    if logits is not None and logits_weight:
        scale = _mean(deviations[-1].square()).clamp_min(1e-8)
        total = total + logits_weight * _mean((activations[-1] - logits).square()) / scale
    return total


def covariance_loss(activations: list[Tensor], whitening: list[Tensor]) -> Tensor:
    """``sum_l mean_ij (cov_g(W a)_ij - delta_ij)^2`` over the layers that have a ``W``: ``[G]``.

    ``activations``: ``[G, N, *U_l]``; ``whitening``: ``W[G, D_l, *U_l]``, along whose rows the class has the identity for its
    covariance (`dfkd_exp.metadata.directions.whitening`); D may be 0.
    """
    total = activations[0].new_zeros(activations[0].shape[0])
    for values, rows in zip(activations, whitening, strict=True):
        if rows.shape[1]:
            along = values.flatten(2) @ rows.flatten(2).mT
            along = along - along.mean(1, keepdim=True)
            covariance = along.mT @ along / (values.shape[1] - 1)
            total = total + _mean((covariance - torch.eye(rows.shape[1]).to(covariance)).square())
    return total


def _mean(values: Tensor) -> Tensor:
    """Over all but groups: ``[G, …]`` to ``[G]``. Not flattened first, which would cost the compiler its vector code."""
    return values.mean(tuple(range(1, values.dim())))


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels per image, ``[N, C, H, W]`` to ``[N]``."""
    total = images.new_zeros(len(images))
    for axis in (-2, -1):
        if images.shape[axis] > 1:
            total = total + images.diff(dim=axis).abs().mean((1, 2, 3))
    return total


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Images ``[N, C, H, W]`` blurred by a separable Gaussian of ``sigma`` pixels, edges repeated."""
    radius = min(max(1, round(3 * sigma)), min(images.shape[-2:]) - 1)
    steps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma).square())
    kernel = (kernel / kernel.sum()).repeat(images.shape[1], 1)
    padded = F.pad(images, [radius] * 4, mode="replicate")
    rows = F.conv2d(padded, kernel[:, None, :, None], groups=images.shape[1])
    return F.conv2d(rows, kernel[:, None, None, :], groups=images.shape[1])
