"""The directions in which the activations of a class vary most, as far as its statistics say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dfkd_exp.metadata.covariance import Full, LowRank, unpack_symmetric
from dfkd_exp.metadata.fourier import leading_triplets
from dfkd_exp.metadata.records import Signals
from dfkd_exp.metadata.separable import Separable

if TYPE_CHECKING:
    from dfkd_exp.metadata.metadata import Summary

SMALL_MATRIX = 512
"""Units up to which all eigenvectors are computed at once, which is quicker then."""
SMALLEST = 1e-4
"""Variance, as a share of the largest, below which a direction is rounding and not data."""


def whitening(summary: Summary, units: slice, count: int) -> Tensor:
    """``W[K, D, U]``, D at most ``count``, for some ``units`` of a summary: the covariance of a class's ``W a`` is the identity.

    Its rows are the eigenvectors of the class's covariance with the largest eigenvalues, divided by the root of these. D is 0 where
    the statistics know of no covariances, and otherwise the number of directions that every class has.
    """
    num_classes, num_units = summary.mean[:, units].shape  # type: ignore[union-attr]
    found = [_leading(summary, units, label, count) for label in range(num_classes)]
    number = min(int((variances > SMALLEST * variances.max()).sum()) if len(variances) else 0 for variances, _ in found)
    rows = [vectors[:number] / variances[:number, None].sqrt() for variances, vectors in found]
    return torch.stack(rows).float() if number else torch.empty(num_classes, 0, num_units)


def _leading(summary: Summary, units: slice, label: int, count: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues ``[D]`` of one class's covariance, descending, and eigenvectors ``[D, U]``; float64, on the CPU."""
    if isinstance(summary, Signals):
        signals = summary.signals[label][:, units].double().cpu()
        deviations = (signals - signals.mean(0)) / max(len(signals) - 1, 1) ** 0.5
        _, singular, vectors = torch.linalg.svd(deviations, full_matrices=False)
        return singular[:count].square(), vectors[:count]
    if isinstance(summary, Full):
        return _of_matrix(summary.matrix(label), count)
    if isinstance(summary, LowRank):
        return _of_factor(summary.factor[label], summary.variance[label], count)
    if isinstance(summary, Separable):
        channels = unpack_symmetric(summary.channels[label], summary.num_channels)
        by_channel, channel_vectors = _of_matrix(channels, count)
        by_location, location_vectors = _of_factor(summary.factor[label], summary.variance[label], count)
        products = torch.outer(by_channel, by_location).flatten()
        largest = products.argsort(descending=True, stable=True)[:count]
        one, other = largest // len(by_location), largest % len(by_location)
        vectors = (channel_vectors[one][:, :, None] * location_vectors[other][:, None]).flatten(1)
        return products[largest], vectors
    return torch.empty(0), torch.empty(0)


def _of_matrix(covariance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    covariance = covariance.double().cpu()
    size = len(covariance)
    if size <= max(SMALL_MATRIX, count + 1):
        values, vectors = torch.linalg.eigh(covariance)
        return values.flip(0)[:count], vectors.T.flip(0)[:count]
    _, values, rows = leading_triplets(lambda x: x @ covariance, lambda x: x @ covariance, (size, size), count)
    return values, rows


def _of_factor(factor: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of ``factor factor^T + diag(variance)``."""
    factor, variance = factor.double().cpu(), variance.double().cpu()
    size = len(factor)
    if size <= max(SMALL_MATRIX, count + 1):
        return _of_matrix(factor @ factor.T + variance.diag(), count)

    def product(rows: Tensor) -> Tensor:
        return (rows @ factor) @ factor.T + rows * variance

    _, values, rows = leading_triplets(product, product, (size, size), count)
    return values, rows
