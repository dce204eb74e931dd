"""Class means of the images, recovered from the metadata of a first layer that is affine in its input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.matchable import Matchable
from dfkd_exp.metadata.metadata import ResolvedMetadata, are_logits
from dfkd_exp.models.float32 import exact
from dfkd_exp.models.recording import device_of, recording
from dfkd_exp.reconstruction.losses import positive

ITERATIONS = 100
SPREAD = 0.7
RIDGE = 1e-3
"""Pull towards the prior, relative to the mean curvature: it decides where the layer does not see."""


@exact()
def class_means(teacher: nn.Module, metadata: ResolvedMetadata, prior: Sequence[float]) -> Tensor:
    """Mean pixels of each class, ``[K, *shape]`` in [0, 1]. Raises DfkdError, with the reason, where the metadata does not give them.

    A mean passes through an affine map ``a_1(x) = A x + b``, so the class's mean image m solves ``A m + b = mu_1``: least squares
    weighted by the layer's variances, with a slight pull to ``prior``, of each channel or of all, by conjugate gradients on the
    normal equations. A is applied, never formed: a forward and a backward pass; of regions it ends in their means. The teacher must be
    frozen.
    """
    shape = (metadata.num_classes, *metadata.inputs.shape)
    found = first_drawable(metadata)
    if found is None:
        raise DfkdError("the metadata has no statistics of values at their places")
    index, statistic = found
    first = metadata.layers[index]
    what = f"the statistics of the teacher's layer {first.name!r}"
    if metadata.signal == "after_relu" and len(metadata.layers) > 1 and first.name:
        raise DfkdError(f"{what} are of its values after a ReLU")
    view = statistic.view
    if view and view.basis == "channels":
        raise DfkdError(f"{what} are of channels at any location")
    if statistic.scope == "all":
        raise DfkdError(f"{what} are of all classes together")
    moments = [statistic.moments(torch.tensor([label]))[0] for label in range(metadata.num_classes)]
    mean, deviation = (torch.stack(parts).to(device_of(teacher)) for parts in zip(*moments, strict=True))
    origin = mean.new_zeros(shape)
    only_logits = len(metadata.layers) == index + 1 and are_logits(first, metadata.num_classes)
    temperature = metadata.temperature if only_logits else 1.0

    def of_some(pixels: Tensor) -> Tensor:
        with recording(teacher, [first]) as recorder:
            values = recorder(metadata.inputs.from_pixels(pixels))[0] / temperature
        return view.gathered(values).mean(1) if view else values.flatten(1)

    at_once = metadata.inputs.images_at_once

    def layer(pixels: Tensor) -> Tensor:
        return torch.cat([of_some(part) for part in pixels.split(at_once)])

    with torch.no_grad():
        offset = layer(origin)
        if not _affine(layer, offset, shape):
            raise DfkdError(f"the teacher's layer {first.name!r} is not affine in the pixels")
    variance = deviation.square()
    weight = 1 / positive(variance + 0.01 * variance.mean(1, keepdim=True))

    @torch.no_grad()
    def forward(pixels: Tensor) -> Tensor:
        return layer(pixels) - offset

    def backward(residual: Tensor) -> Tensor:
        found = []
        for start, weighted in zip(origin.split(at_once), (weight * residual).split(at_once), strict=True):
            with torch.enable_grad():
                pixels = start.clone().requires_grad_(True)
                found.append(torch.autograd.grad(of_some(pixels), pixels, weighted)[0])
        return torch.cat(found)

    ridge = RIDGE * backward(forward(torch.ones_like(origin))).abs().mean()
    means = origin + origin.new_tensor(prior).view(-1, *[1] * (len(metadata.inputs.shape) - 1))
    rest = backward(mean - offset - forward(means))
    direction, size = rest, _dot(rest, rest)
    for _ in range(ITERATIONS):
        bent = backward(forward(direction)) + ridge * direction
        length = size / _dot(direction, bent).clamp_min(1e-30)
        means, rest = means + length * direction, rest - length * bent
        new_size = _dot(rest, rest)
        direction, size = rest + new_size / size.clamp_min(1e-30) * direction, new_size
    if not means.isfinite().all():
        raise DfkdError(f"no images were found that {what} fit")
    return means.clamp(0, 1)


def first_drawable(metadata: ResolvedMetadata) -> tuple[int, Matchable] | None:
    """The first layer, by index, of which there are statistics that its values could be drawn from, and these; None if there is none."""
    for index, statistic, _ in metadata.matched():
        if statistic.drawable:
            return index, statistic
    return None


def around(mean: Tensor, noise: Tensor) -> Tensor:
    """Pixels to start from, ``[N, *shape]`` in [0, 1], given their ``mean[*shape]`` and standard Gaussian ``noise``.

    A pixel in [0, 1] of mean m deviates by at most ``sqrt(m (1 - m))``, where it is always 0 or 1; MNIST's
    deviate by 0.86 of it on average.
    """
    return (mean + SPREAD * (mean * (1 - mean)).sqrt() * noise).clamp(0, 1)


def _affine(layer, offset: Tensor, shape: tuple[int, ...]) -> bool:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.rand(shape, generator=generator).to(offset.device) for _ in range(2))
    expected = layer(one) + layer(two) - offset
    return bool((layer(one + two) - expected).norm() <= 1e-4 * expected.norm())


def _dot(one: Tensor, two: Tensor) -> Tensor:
    return (one * two).sum(tuple(range(1, one.dim())), keepdim=True)
