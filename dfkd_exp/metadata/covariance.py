"""Gaussians, a stack of rows at a time, one per class or one for all: full, low-rank or diagonal covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import ClassVar

import torch
from torch import Tensor

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.choices import BASES
from dfkd_exp.metadata.directions import leading_of_factor, leading_of_matrix
from dfkd_exp.metadata.in_basis import InBasis
from dfkd_exp.metadata.matchable import Distribution
from dfkd_exp.metadata.statistic import Basis, Summary, TeacherSide
from dfkd_exp.models.layers import Layer


@dataclass
class GaussianSummary(Summary, Distribution):
    """A mean ``[R, F]`` and a covariance."""

    holds: ClassVar[str] = "the mean of its outputs and their covariance, over the training images"
    mean: Tensor

    @property
    def num_coefficients(self) -> int:
        return self.mean.shape[-1]

    def distribution(self, side: TeacherSide) -> Distribution:
        return self if side.basis is None else InBasis.of(self, side.basis)

    def std_in(self, basis: Basis) -> Tensor:
        """Deviations ``[R, U]`` of the values that coefficients in a ``basis`` stand for."""
        return torch.stack([basis.inverse(self.roots(row)).square().sum(0).sqrt() for row in range(len(self.mean))])

    def roots(self, row: int) -> Tensor:
        """``R[P, F]`` with ``R^T R`` the covariance of one row."""
        raise NotImplementedError


@dataclass
class Diagonal(GaussianSummary):
    """``mean[R, F]`` and ``variance[R, F]`` of F values that are taken as independent."""

    form: ClassVar[str] = "diagonal"
    bases: ClassVar[tuple[str, ...]] = BASES
    variance: Tensor

    def std(self) -> Tensor:
        return self.variance.sqrt()

    def std_in(self, basis: Basis) -> Tensor:
        units = torch.eye(self.num_coefficients, device=self.variance.device)
        return (self.variance @ basis.inverse(units).square()).sqrt()

    def sample(self, row: int, count: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(count, self.mean.shape[1], generator=generator).to(self.mean)
        return self.mean[row] + self.variance[row].sqrt() * noise

    def shapes(self, rows: int, coefficients: int) -> dict[str, list[int]]:
        return {"mean": [rows, coefficients], "variance": [rows, coefficients]}


@dataclass
class Full(GaussianSummary):
    """``mean[R, F]`` and ``covariance[R, F(F+1)/2]``: the lower triangle, row by row, since the rest is its mirror."""

    form: ClassVar[str] = "full"
    covariance: Tensor

    def std(self) -> Tensor:
        return packed_diagonal(self.covariance).clamp_min(0).sqrt()

    def check(self, layers: Sequence[Layer]) -> None:
        require_variances(self.covariance, "covariance")

    def matrix(self, row: int) -> Tensor:
        """The covariance ``[F, F]`` of one row."""
        return unpack_symmetric(self.covariance[row], self.mean.shape[1])

    @cached_property
    def _factors(self) -> dict[int, Tensor]:
        return {}

    def factor(self, row: int) -> Tensor:
        """``L[F, F]`` with ``L L^T`` the covariance of one row; computed once."""
        if row not in self._factors:
            self._factors[row] = covariance_factor(self.matrix(row))
        return self._factors[row]

    def roots(self, row: int) -> Tensor:
        return self.factor(row).T

    def covariances(self, row: int, one: Tensor, other: Tensor) -> Tensor:
        return packed_entries(self.covariance[row], one, other).double()

    def sample(self, row: int, count: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(count, self.mean.shape[1], generator=generator).to(self.mean)
        return self.mean[row] + noise @ self.factor(row).T

    def leading(self, row: int, part: slice, count: int) -> tuple[Tensor, Tensor]:
        return leading_of_matrix(self.matrix(row)[part, part], count)

    def shapes(self, rows: int, coefficients: int) -> dict[str, list[int]]:
        return {"mean": [rows, coefficients], "covariance": [rows, coefficients * (coefficients + 1) // 2]}


@dataclass
class LowRank(GaussianSummary):
    """``mean[R, F]``, ``factor[R, F, P]`` and ``variance[R, F]``: covariance ``factor factor^T + diag(variance)``.

    The diagonal holds what the factor leaves of each value's variance, so that every variance is exact.
    """

    form: ClassVar[str] = "low_rank"
    factor: Tensor
    variance: Tensor

    def std(self) -> Tensor:
        return (self.factor.square().sum(2) + self.variance).sqrt()

    def roots(self, row: int) -> Tensor:
        return torch.cat([self.factor[row].T, self.variance[row].sqrt().diag()])

    def covariances(self, row: int, one: Tensor, other: Tensor) -> Tensor:
        factor = self.factor[row].double()
        return (factor[one] * factor[other]).sum(1) + (one == other) * self.variance[row].double()[one]

    def sample(self, row: int, count: int, generator: torch.Generator) -> Tensor:
        shared = torch.randn(count, self.factor.shape[2], generator=generator).to(self.mean)
        own = torch.randn(count, self.mean.shape[1], generator=generator).to(self.mean)
        return self.mean[row] + shared @ self.factor[row].T + own * self.variance[row].sqrt()

    def check(self, layers: Sequence[Layer]) -> None:
        if not self.factor.shape[2]:
            raise ValueError("a factor of rank 0")

    def leading(self, row: int, part: slice, count: int) -> tuple[Tensor, Tensor]:
        return leading_of_factor(self.factor[row][part], self.variance[row][part], count)

    def shapes(self, rows: int, coefficients: int) -> dict[str, list[int]]:
        return {
            "mean": [rows, coefficients],
            "factor": [rows, coefficients, self.factor.shape[2]],
            "variance": [rows, coefficients],
        }


ROUNDING = 1e-6
"""Eigenvalues of a sketch below this share of the largest are rounding errors of float32."""


def pack_symmetric(matrix: Tensor) -> Tensor:
    """Lower triangle of ``[..., U, U]``, row by row: ``[..., U(U+1)/2]``."""
    rows, columns = torch.tril_indices(*matrix.shape[-2:], device=matrix.device)
    return matrix[..., rows, columns]


def packed_diagonal(packed: Tensor) -> Tensor:
    """The diagonals ``[..., U]`` of what `pack_symmetric` gave."""
    order = torch.arange(1, (isqrt(8 * packed.shape[-1] + 1) - 1) // 2 + 1, device=packed.device)
    return packed[..., order * (order + 1) // 2 - 1]


def packed_entries(packed: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The entries ``[P]`` in ``rows[P]`` and ``columns[P]`` of one matrix that `pack_symmetric` gave."""
    below, before = torch.maximum(rows, columns), torch.minimum(rows, columns)
    return packed[below * (below + 1) // 2 + before]


def require_variances(packed: Tensor, name: str) -> None:
    """Raise ValueError if a variance in the packed covariances is below zero by more than rounding."""
    variances = packed_diagonal(packed)
    if (variances < -ROUNDING * variances.abs().amax(-1, keepdim=True)).any():
        raise ValueError(f"a variance in the {name} is negative")


def unpack_symmetric(packed: Tensor, num_units: int) -> Tensor:
    """The inverse of `pack_symmetric`, for one matrix: ``[U, U]``."""
    rows, columns = torch.tril_indices(num_units, num_units, device=packed.device)
    matrix = packed.new_zeros(num_units, num_units)
    matrix[rows, columns] = packed
    matrix[columns, rows] = packed
    return matrix


def covariance_factor(covariance: Tensor) -> Tensor:
    """``F`` with ``F F^T = covariance [U, U]``: Cholesky, or for a singular covariance its eigenvectors, scaled.

    No jitter is added: units that never vary (dead ones, or fewer images than units) stay exactly where they are.
    """
    if not covariance.isfinite().all():
        raise DfkdError("a covariance holds NaN or infinite values, so nothing can be drawn from it; collect it again")
    covariance = covariance.double()
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed.item() or not factor.isfinite().all():
        values, vectors = torch.linalg.eigh(covariance)
        factor = vectors * values.clamp_min(0).sqrt()
    return factor.float()


def low_rank_factor(sketch: Tensor, test_matrix: Tensor, rank: int) -> Tensor:
    """``F[U, rank]`` with ``F F^T`` close to ``S``, from ``sketch = S test_matrix [U, P]`` alone.

    Source: Tropp et al. 2017, "Fixed-rank approximation of a positive-semidefinite matrix from streaming data", Alg. 3
    (Nystrom). Differs: a truncated pseudo-inverse stands in for the shift, because the products are summed in float32
    and ``S`` is often of lower rank than the sketch has columns (few images, dead units, a narrow layer before).
    """
    sketch, test_matrix = sketch.double(), test_matrix.double()
    if not sketch.isfinite().all():
        return sketch.new_full((sketch.shape[0], rank), torch.nan).float()  # for `check_finite`, which names the layer
    core = test_matrix.T @ sketch
    values, vectors = torch.linalg.eigh((core + core.T) / 2)
    kept = values > ROUNDING * values[-1].clamp_min(0)
    half = sketch @ (vectors[:, kept] / values[kept].sqrt())
    left, singular, _ = torch.linalg.svd(half, full_matrices=False)
    factor = sketch.new_zeros(sketch.shape[0], rank)
    columns = min(rank, len(singular))
    factor[:, :columns] = (left * singular)[:, :columns]
    return factor.float()
