"""A Gaussian of coefficients as one of the values that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dfkd_exp.metadata.matchable import Distribution
from dfkd_exp.metadata.statistic import Basis

if TYPE_CHECKING:
    from dfkd_exp.metadata.covariance import GaussianSummary


@dataclass(frozen=True)
class InBasis(Distribution):
    """A Gaussian of coefficients as one of units: ``mean[R, U]``, ``deviation[R, U]``, and draws through the basis, on the CPU."""

    mean: Tensor
    deviation: Tensor
    coefficients: GaussianSummary
    basis: Basis

    @classmethod
    def of(cls, coefficients: GaussianSummary, basis: Basis) -> InBasis:
        return cls(basis.inverse(coefficients.mean), coefficients.std_in(basis), coefficients, basis)

    def std(self) -> Tensor:
        return self.deviation

    def sample(self, row: int, count: int, generator: torch.Generator) -> Tensor:
        return self.basis.inverse(self.coefficients.sample(row, count, generator)).to(self.mean)

    def sums(self, most: int) -> list[Tensor]:
        """Of coefficients, as they were published: where there are fewer than units, the rest of the units' own is in no sum."""
        return self.coefficients.sums(most)

    def shares(self, values: Tensor, products: Tensor) -> Tensor:
        return self.coefficients.shares(self.basis.transform(values[:, 0])[:, None], products)

    def total(self, row: int, products: Tensor) -> Tensor:
        return self.coefficients.total(row, products)
