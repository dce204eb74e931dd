"""Means and variances of many classes by what they have in common: those of all of them, and directions along which classes differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar, Self

import torch
from torch import Tensor

from dfkd_exp.metadata.choices import BASES
from dfkd_exp.metadata.covariance import Diagonal
from dfkd_exp.metadata.matchable import Distribution
from dfkd_exp.metadata.memory import check_room
from dfkd_exp.metadata.statistic import Summary, TeacherSide
from dfkd_exp.metadata.storage import num_bytes
from dfkd_exp.models.layers import Layer

AT_ONCE = 2**22
"""Numbers of classes that are put together at once to be checked."""
SMALLEST_OF_UNIT, SMALLEST_OF_ALL = 0.1, 1e-3
"""A class's deviation counts as at least these shares of its unit's over all classes, and of the largest unit's: what a class hardly ever
turns on has no logarithm to speak of, and would take directions that others need."""


@dataclass
class Shared(Summary):
    """``mean[1, F]`` and ``variance[1, F]`` of F values, ``directions[P, 2F]`` and ``offsets[R, P]``, which stand for a `Diagonal` of R
    classes: with ``o_r`` a row of the offsets and ``sigma`` the variance's root, the mean of class r is
    ``mean + sigma * (o_r @ directions[:, :F])``, and the logarithm of its deviation ``log(sigma) + o_r @ directions[:, F:]``.
    """

    form: ClassVar[str] = "shared"
    holds: ClassVar[str] = (
        "the mean and the variance of its outputs over the training images, of all classes together and how each of them differs, along a "
        "few directions that they share"
    )
    bases: ClassVar[tuple[str, ...]] = BASES
    scopes: ClassVar[tuple[str, ...]] = ("class",)
    mean: Tensor
    variance: Tensor
    directions: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, mean: Tensor, variance: Tensor, rank: int) -> Self:
        """What is closest, in deviations and their logarithms, to ``mean[R, F]`` and ``variance[R, F]``, which must not all be zero, of so
        many directions. Source: Eckart and Young (1936)."""
        of_unit = variance.mean(0).sqrt()
        least = torch.maximum(SMALLEST_OF_UNIT * of_unit, SMALLEST_OF_ALL * of_unit.max())
        logarithms = torch.maximum(variance.sqrt(), least).log()
        centre, sigma = mean.mean(0), logarithms.mean(0).exp()
        apart = torch.cat([(mean - centre) / sigma, logarithms - sigma.log()], 1)
        if not apart.isfinite().all():
            # For `check_finite`, which names the layer.
            return cls(
                centre[None], sigma.square()[None], apart.new_full((rank, apart.shape[1]), torch.nan), apart[:, :rank]
            )
        left, singular, right = torch.linalg.svd(apart, full_matrices=False)
        # What an eigenvector's sign is depends on the library.
        signs = right.gather(1, right.abs().argmax(1, keepdim=True)).sign()
        scale, count = sqrt(len(mean)), min(rank, len(singular))
        directions = (singular[:, None] * right * signs / scale)[:count]
        return cls(centre[None], sigma.square()[None], directions, (left * signs.T * scale)[:, :count])

    @property
    def num_coefficients(self) -> int:
        return self.mean.shape[-1]

    def shapes(self, rows: int, coefficients: int) -> dict[str, list[int]]:
        rank = len(self.directions)
        return {
            "mean": [1, coefficients],
            "variance": [1, coefficients],
            "directions": [rank, 2 * coefficients],
            "offsets": [rows, rank],
        }

    def check(self, layers: Sequence[Layer]) -> None:
        if not len(self.directions):
            raise ValueError("no directions")
        for offsets in self.offsets.split(max(1, AT_ONCE // self.directions.shape[1])):
            found = replace(self, offsets=offsets).diagonal()
            if not (found.mean.isfinite().all() and found.variance.isfinite().all()):
                raise ValueError("offsets along the directions beyond all numbers")

    def diagonal(self) -> Diagonal:
        """What it stands for. DfkdError where that, of a file that may be small, is more than there is room for."""
        each = 16 * self.mean.shape[1]
        check_room(len(self.offsets) * each, "statistics along directions that classes share", "publish fewer classes")
        of_mean, of_logarithm = (self.offsets @ self.directions).tensor_split(2, dim=1)
        sigma = self.variance.sqrt()
        return Diagonal(self.mean + sigma * of_mean, (sigma * of_logarithm.exp()).square())

    def distribution(self, side: TeacherSide) -> Distribution:
        return self.diagonal().distribution(side)


def fewer_bytes(rows: int, values: int, rank: int, storage: str) -> bool:
    """Whether so many directions take fewer bytes than mean and variance of each class."""
    apart = [[rows, values]] * 2
    shared = [[1, values], [1, values], [rank, 2 * values], [rows, rank]]
    return num_bytes(shared, storage) < num_bytes(apart, storage)
