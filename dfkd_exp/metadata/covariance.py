"""Gaussians of one layer, a stack of K classes at a time: full, low-rank or diagonal covariance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from dfkd_exp.errors import DfkdError


@dataclass
class Diagonal:
    """``mean[K, U]`` and ``variance[K, U]`` of U units that are taken as independent."""

    form: ClassVar[str] = "diagonal"
    mean: Tensor
    variance: Tensor

    def std(self) -> Tensor:
        """Standard deviations ``[K, U]``."""
        return self.variance.sqrt()

    def roots(self, label: int) -> Tensor:
        """``R[P, U]`` with ``R^T R`` the covariance of one class."""
        return self.variance[label].sqrt().diag()

    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """``count`` draws of class ``label``: ``[count, U]``, on the statistics' device, from a CPU generator."""
        noise = torch.randn(count, self.mean.shape[1], generator=generator).to(self.mean)
        return self.mean[label] + self.variance[label].sqrt() * noise

    def shapes(self, classes: int, units: int) -> dict[str, list[int]]:
        """The shapes that its tensors must have for ``classes`` and ``units``."""
        return {"mean": [classes, units], "variance": [classes, units]}

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name."""
        return {"mean": self.mean, "variance": self.variance}


@dataclass
class Full:
    """``mean[K, U]`` and ``covariance[K, U(U+1)/2]``: the lower triangle, row by row, since the rest is its mirror."""

    form: ClassVar[str] = "full"
    mean: Tensor
    covariance: Tensor

    def std(self) -> Tensor:
        units = torch.arange(1, self.mean.shape[1] + 1, device=self.mean.device)
        return self.covariance[:, units * (units + 1) // 2 - 1].sqrt()

    def matrix(self, label: int) -> Tensor:
        """The covariance ``[U, U]`` of one class."""
        return unpack_symmetric(self.covariance[label], self.mean.shape[1])

    @cached_property
    def _factors(self) -> dict[int, Tensor]:
        return {}

    def factor(self, label: int) -> Tensor:
        """``F[U, U]`` with ``F F^T`` the covariance of one class; computed once."""
        if label not in self._factors:
            self._factors[label] = covariance_factor(self.matrix(label))
        return self._factors[label]

    def roots(self, label: int) -> Tensor:
        return self.factor(label).T

    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(count, self.mean.shape[1], generator=generator).to(self.mean)
        return self.mean[label] + noise @ self.factor(label).T

    def shapes(self, classes: int, units: int) -> dict[str, list[int]]:
        return {"mean": [classes, units], "covariance": [classes, units * (units + 1) // 2]}

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "covariance": self.covariance}


@dataclass
class LowRank:
    """``mean[K, U]``, ``factor[K, U, R]`` and ``variance[K, U]``: covariance ``factor factor^T + diag(variance)``.

    The diagonal holds what the factor leaves of each unit's variance, so that every variance is exact.
    """

    form: ClassVar[str] = "low_rank"
    mean: Tensor
    factor: Tensor
    variance: Tensor

    def std(self) -> Tensor:
        return (self.factor.square().sum(2) + self.variance).sqrt()

    def roots(self, label: int) -> Tensor:
        return torch.cat([self.factor[label].T, self.variance[label].sqrt().diag()])

    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        shared = torch.randn(count, self.factor.shape[2], generator=generator).to(self.mean)
        own = torch.randn(count, self.mean.shape[1], generator=generator).to(self.mean)
        return self.mean[label] + shared @ self.factor[label].T + own * self.variance[label].sqrt()

    def shapes(self, classes: int, units: int) -> dict[str, list[int]]:
        return {
            "mean": [classes, units],
            "factor": [classes, units, self.factor.shape[2]],
            "variance": [classes, units],
        }

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "factor": self.factor, "variance": self.variance}


ROUNDING = 1e-6
"""Eigenvalues of a sketch below this share of the largest are rounding errors of float32."""

LayerGaussian = Diagonal | Full | LowRank
FORMS: dict[str, type[Diagonal] | type[Full] | type[LowRank]] = {c.form: c for c in (Diagonal, Full, LowRank)}


def pack_symmetric(matrix: Tensor) -> Tensor:
    """Lower triangle of ``[..., U, U]``, row by row: ``[..., U(U+1)/2]``."""
    rows, columns = torch.tril_indices(*matrix.shape[-2:], device=matrix.device)
    return matrix[..., rows, columns]


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
