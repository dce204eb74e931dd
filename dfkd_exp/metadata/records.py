"""Records: single images' activations, each by its largest coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from dfkd_exp.metadata.directions import leading_of_signals
from dfkd_exp.metadata.matchable import Distribution
from dfkd_exp.metadata.statistic import Summary, TeacherSide
from dfkd_exp.models.layers import Layer

FEW_INDICES = 2**16
"""Up to so many coefficients an index takes two bytes in the file, else four."""

ROUNDING = 1e-6
"""Relative error of activations in single precision, below which nothing is told apart."""


@dataclass
class Records(Summary):
    """``values[R, N, C]`` and ``indices[R, N, C]``: the C coefficients of largest magnitude of N images per class, of ``num_coefficients``.

    Source: Lopes et al. (2017), where the coefficients are those of a graph Fourier basis.
    """

    form: ClassVar[str] = "records"
    holds: ClassVar[str] = "its outputs for single training images, each by its largest coefficients"
    reveals: ClassVar[str] = (
        "Records are of single training images. An image's outputs, even some of them, often suffice to reconstruct that very\n"
        "  image, and whoever has it can tell that it was recorded, from two per cent of the coefficients too."
    )
    bases: ClassVar[tuple[str, ...]] = ("units", "graph")
    scopes: ClassVar[tuple[str, ...]] = ("class",)
    header_fields: ClassVar[tuple[str, ...]] = ("coefficients",)
    values: Tensor
    indices: Tensor
    coefficients: int

    @classmethod
    def largest(cls, coefficients: Tensor, kept: int) -> Records:
        """Of ``coefficients[R, N, F]`` the ``kept`` largest of each record, in the order of their indices."""
        indices = coefficients.abs().topk(kept, dim=2).indices.sort(2).values
        return cls(coefficients.gather(2, indices), indices.to(torch.int32), coefficients.shape[2])

    @property
    def num_coefficients(self) -> int:
        return self.coefficients

    @property
    def num_images(self) -> int:
        """Records of each class."""
        return self.values.shape[1]

    def dense(self) -> Tensor:
        """``[R, N, F]``, zero where a coefficient was not kept."""
        zeros = self.values.new_zeros(*self.values.shape[:2], self.coefficients)
        return zeros.scatter_(2, self.indices.long(), self.values)

    def restored(self, kept: Tensor) -> Signals:
        return Signals(kept)

    def distribution(self, side: TeacherSide) -> Signals:
        dense, basis = self.dense(), side.basis
        return Signals(dense if basis is None else basis.inverse(dense.flatten(0, 1)).view(*dense.shape[:2], -1))

    def shapes(self, rows: int, coefficients: int) -> dict[str, list[int]]:
        _, count, kept = self.values.shape
        return {"values": [rows, count, kept], "indices": [rows, count, kept]}

    def check(self, layers: Sequence[Layer]) -> None:
        """Raise ValueError unless each record's indices ascend, from 0 to at most the last coefficient's."""
        if not self.values.numel():
            raise ValueError("records without a value")
        first, last = int(self.indices.min()), int(self.indices.max())
        if first < 0 or last >= self.coefficients or not (self.indices.diff(dim=2) > 0).all():
            raise ValueError(f"indices from {first} to {last} of {self.coefficients} coefficients, or not ascending")

    def tensors(self) -> dict[str, Tensor]:
        few = self.coefficients <= FEW_INDICES
        return {"values": self.values, "indices": self.indices.to(torch.uint16 if few else torch.int32)}


@dataclass(frozen=True)
class Signals(Distribution):
    """Records as activations of units: ``signals[R, N, U]``."""

    rectified: ClassVar[bool] = False
    summed: ClassVar[bool] = True
    of_images: ClassVar[bool] = True
    signals: Tensor
    mean: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", self.signals.mean(1))

    def std(self) -> Tensor:
        """``[R, U]``; zero with a single record."""
        return self.signals.std(1) if self.signals.shape[1] > 1 else torch.zeros_like(self.mean)

    def sample(self, row: int, count: int, generator: torch.Generator) -> Tensor:
        """``count`` records of one row, ``[count, U]``: all of them in random order before one comes again."""
        number = self.signals.shape[1]
        rounds = [torch.randperm(number, generator=generator) for _ in range(-(-count // number))]
        return self.signals[row, torch.cat(rounds)[:count]]

    def kept(self) -> Tensor:
        return self.signals

    def leading(self, row: int, part: slice, count: int) -> tuple[Tensor, Tensor]:
        return leading_of_signals(self.signals[row][:, part], count)

    def misfits(self, values: Tensor, row: int) -> Tensor:
        """How badly each image fits each record, ``[N, A]``.

        What a record leaves out of its image's signal s is orthogonal to what it keeps of it, s_bar, in any orthonormal basis: so
        ``<s, s_bar> = |s_bar|^2``, as exactly as numbers are stored, for that image and hardly for another; and s is near s_bar.
        """
        signals, records = values.flatten(1), self.signals[row].to(values)
        kept, shared = records.square().sum(1) + 1e-12, signals @ records.T
        exact = (shared / kept - 1).abs()
        near = (signals.square().sum(1, keepdim=True) + kept - 2 * shared).clamp_min(0) / kept
        return (exact + ROUNDING).log() + (near + ROUNDING).log()

    def sums(self, most: int) -> list[Tensor]:
        """None: each record is of one image."""
        return []
