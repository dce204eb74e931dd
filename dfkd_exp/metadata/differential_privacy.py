"""Differential privacy of Gaussian metadata: clipped sums through the analytic Gaussian mechanism.

Two training sets are neighbours if one image of one is replaced by another image of the same class in the other; how many images a class
has, and the teacher's weights, are public. What is claimed is of the metadata alone, and of nothing that the weights give away.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping

import torch
from scipy.special import log_ndtr, ndtr
from torch import Tensor

FLOOR = 1e-4
"""A variance that the noise has made smaller than this share of ``clip^2``, or negative, is set to it."""


def gaussian_sigma(epsilon: float, delta: float) -> float:
    """The least deviation of Gaussian noise that makes a sum of L2 sensitivity 1 (epsilon, delta)-differentially private.

    Source: Balle and Wang (2018), "Improving the Gaussian mechanism for differential privacy", Theorem 8.
    """

    def excess(sigma: float) -> float:
        above, below = 1 / (2 * sigma) - epsilon * sigma, -1 / (2 * sigma) - epsilon * sigma
        return float(ndtr(above)) - math.exp(min(epsilon + float(log_ndtr(below)), 0.0)) - delta

    high = 1.0
    while excess(high) > 0:
        high *= 2
    low = high / 2
    while excess(low) <= 0:
        low /= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def noise_multiplier(epsilon: float, delta: float, num_layers: int) -> float:
    """The noise of each sum, in units of its sensitivity: an image is in two sums of every layer, and in those of one class alone."""
    return math.sqrt(2 * num_layers) * gaussian_sigma(epsilon, delta)


NEIGHBOURS = (
    "one training image is replaced by another of its class; the numbers of images and the teacher's weights are public"
)
"""What a claim of differential privacy is about."""


class PrivateSums:
    """The sums of one class and layer that are to be released with noise: of the clipped activations, and of their clipped squares
    (or products, with ``full``). They merge by addition.

    With ``clip`` c and U units an image's activations are scaled down to a norm of ``c sqrt(U)`` where theirs is larger, and its squares to
    ``c^2 sqrt(3 U)``, which is the norm of the squares of U Gaussian units of deviation c. So c is the largest root mean
    square that passes; it must be chosen without looking at the data. Where locations are put together U is the number of channels, and an
    image's activations and squares are their means over its locations: neither a norm nor a sensitivity is larger for that.
    """

    def __init__(self, num_units: int, clip: float, full: bool):
        self.clip, self.full, self.count = clip, full, 0
        self._first = torch.zeros(num_units, dtype=torch.float64)
        self._second = torch.zeros((num_units, num_units) if full else num_units, dtype=torch.float64)

    @property
    def bounds(self) -> tuple[float, float]:
        """The largest norms that an image adds to the two sums."""
        units = len(self._first)
        first = self.clip * math.sqrt(units)
        return first, first**2 if self.full else self.clip**2 * math.sqrt(3 * units)

    @property
    def sensitivities(self) -> tuple[float, float]:
        """How far replacing one image moves the two sums, at most. Squares are not negative, so theirs are at most at right angles."""
        first, second = self.bounds
        return 2 * first, math.sqrt(2) * second

    def update(self, values: Tensor) -> None:
        """Add activations ``values[N, M, U]``: of each image M values of a unit, of which, and of whose squares, the mean is taken."""
        first, second = self.bounds
        clipped = _clipped(values.double().mean(1), first)
        self.count += len(values)
        self._first += clipped.sum(0).cpu()
        if self.full:
            self._second += (clipped.T @ clipped).cpu()
        else:
            self._second += _clipped(values.double().square().mean(1), second).sum(0).cpu()

    def merge(self, other: PrivateSums) -> None:
        """Add another's images."""
        self.count += other.count
        self._first += other._first
        self._second += other._second

    def state(self) -> dict[str, Tensor]:
        """All that it has summed, for `with_state` in another process."""
        return {"count": torch.tensor(self.count), "first": self._first, "second": self._second}

    def with_state(self, state: Mapping[str, Tensor]) -> PrivateSums:
        """Another one that has summed what `state` says."""
        other = PrivateSums(len(self._first), self.clip, self.full)
        other.count, other._first, other._second = int(state["count"]), state["first"], state["second"]
        return other

    def released(self, noise: float, drawn: Callable[[torch.Size], Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The mean ``[U]`` and the variances ``[U]`` or covariance ``[U, U]``, float64, each sum with Gaussian noise of ``noise`` times its
        sensitivity; what is done after the noise costs no privacy. ``drawn``: a standard Gaussian tensor of a shape, if not
        `secret_gaussian`."""
        drawn = drawn or secret_gaussian
        first, second = self._first, self._second
        sensitive_first, sensitive_second = self.sensitivities
        first = first + noise * sensitive_first * drawn(first.shape)
        fresh = noise * sensitive_second * drawn(second.shape)
        if self.full:  # one number for each pair of units
            fresh = fresh.tril() + fresh.tril(-1).T
        mean, moment = first / self.count, (second + fresh) / self.count
        floor = FLOOR * self.clip**2
        if not self.full:
            return mean, (moment - mean.square()).clamp_min(floor)
        values, vectors = torch.linalg.eigh(moment - torch.outer(mean, mean))
        return mean, (vectors * values.clamp_min(floor)) @ vectors.T


def secret_gaussian(shape: torch.Size) -> Tensor:
    """Standard Gaussian noise that nobody can draw again, float64: each number from bits of the system's own. Noise of a seed could be
    subtracted by whoever tries all seeds, of which torch's generator of a CPU has 2^32, however long the one is that it is given."""
    bits = torch.frombuffer(bytearray(os.urandom(8 * shape.numel())), dtype=torch.int64)
    uniform = ((bits & 2**52 - 1).double() + 0.5) * 2.0**-52
    return torch.special.ndtri(uniform).view(shape)


def _clipped(rows: Tensor, norm: float) -> Tensor:
    return rows * (norm / rows.norm(dim=1, keepdim=True).clamp_min(1e-300)).clamp_max(1)
