"""The directions in which the activations of a class vary most, as far as its statistics say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd_exp.metadata.fourier import leading_triplets

if TYPE_CHECKING:
    from dfkd_exp.metadata.matchable import Distribution

SMALL_MATRIX = 512
"""Units up to which all eigenvectors are computed at once, which is quicker then."""
SMALLEST = 1e-4
"""Variance, as a share of the largest, below which a direction is rounding and not data."""


def whitening(distribution: Distribution, part: slice, count: int) -> Tensor:
    """``W[R, D, F]``, D at most ``count``, for a ``part`` of a distribution's values: the covariance of a row's ``W a`` is the identity.

    Its rows are the eigenvectors of the row's covariance with the largest eigenvalues, divided by the root of these. D is 0 where
    the statistics know of no covariances, and otherwise the largest number of directions that a row has; those of others, as of a class
    of few images, end in zeros.
    """
    num_rows, num_values = distribution.mean[:, part].shape
    rows = []
    for row in range(num_rows):
        variances, vectors = distribution.leading(row, part, count)
        known = variances > SMALLEST * variances.max() if len(variances) else torch.zeros(0, dtype=torch.bool)
        rows.append(vectors[known] / variances[known, None].sqrt())
    number = max(map(len, rows))
    padded = [F.pad(whitened, (0, 0, 0, number - len(whitened))) for whitened in rows]
    return torch.stack(padded).float() if number else torch.empty(num_rows, 0, num_values)


def leading_of_matrix(covariance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues ``[D]`` of ``covariance[F, F]``, descending, and eigenvectors ``[D, F]``; float64, on the CPU."""
    covariance = covariance.double().cpu()
    size = len(covariance)
    if size <= max(SMALL_MATRIX, count + 1):
        values, vectors = torch.linalg.eigh(covariance)
        return values.flip(0)[:count], vectors.T.flip(0)[:count]
    return _leading_of(lambda rows: rows @ covariance, size, count)


def leading_of_factor(factor: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same of ``factor factor^T + diag(variance)``, ``factor[F, R]`` and ``variance[F]``."""
    factor, variance = factor.double().cpu(), variance.double().cpu()
    size = len(factor)
    if size <= max(SMALL_MATRIX, count + 1):
        return leading_of_matrix(factor @ factor.T + variance.diag(), count)

    def product(rows: Tensor) -> Tensor:
        return (rows @ factor) @ factor.T + rows * variance

    return _leading_of(product, size, count)


def _leading_of(product: Callable[[Tensor], Tensor], size: int, count: int) -> tuple[Tensor, Tensor]:
    """The same of a symmetric matrix by which rows are multiplied. Rounding makes some eigenvalues negative: as a singular value such a one
    would pass for a variance."""
    columns, sizes, rows = leading_triplets(product, product, (size, size), count)
    values, order = (sizes * (columns.T * rows).sum(1).sign()).sort(descending=True)
    return values, rows[order]


def leading_of_signals(signals: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same of the covariance of ``signals[N, F]`` themselves."""
    deviations = (signals.double().cpu() - signals.double().cpu().mean(0)) / max(len(signals) - 1, 1) ** 0.5
    _, singular, vectors = torch.linalg.svd(deviations, full_matrices=False)
    return singular[:count].square(), vectors[:count]
