"""The graph Fourier transform: the spectrum of a chain of layers, from the singular vectors of one matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy.linalg import qr
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.graph import Block

LARGEST_BASIS = 6 * 2**30
"""Bytes that a basis may take while it is computed."""

COPIES = 5
"""So many times a basis's own bytes are in use while it is computed; measured: 4.4 (`benchmarks/spectra.py`)."""

SAME = 1e-10
"""Singular values closer than this, relative to the largest, are taken as equal, and those below it as zero: rounding (1e-16)
mixes their vectors."""

GOLDEN = (math.sqrt(5) - 1) / 2


class GraphFourier:
    """The eigenvectors of the graph over the units of a chain of layers: ``A = F^T diag(frequencies) F`` and ``F F^T = 1``.

    ``blocks``: the weights between consecutive layers. One block is the graph of a pair, all of them that of all layers. Either is
    bipartite: only consecutive layers are joined, so every edge leads from an even-numbered layer to an odd-numbered one. With ``M``
    the weights from the even side to the odd one and ``M = U diag(sigma) V^T``, the eigenvectors of ``A`` are ``(v, ±u) / sqrt(2)``
    with eigenvalues ``±sigma``, and what ``M`` and ``M^T`` map to zero. A itself is never formed.

    ``rank``: None for all of them; else the leading pairs alone, ``2 rank`` frequencies and no zeros, by Lanczos iterations that apply
    the blocks. Signs and the vectors of equal frequencies follow from the blocks alone (`canonical_rotation`), so that who computes the
    basis elsewhere gets the same one.

    Source: Sandryhaila and Moura (2013). Raises DfkdError if the basis would take more than `LARGEST_BASIS` bytes.
    """

    def __init__(self, blocks: Sequence[Block], rank: int | None = None):
        self.sizes = [blocks[0].num_inputs, *(block.num_outputs for block in blocks)]
        """Units per layer; a signal is these layers' activations, flattened and one after the other."""
        odd, singular, even = _singular_triplets(blocks, self.sizes, rank)
        gap = SAME * singular[0]
        pairs = int((singular > gap).sum())
        self.singular = singular[:pairs]
        columns = None if rank is None else pairs
        self.even, self.odd = even.T[:, :columns], odd[:, :columns]
        """``[units of the side, pairs + null space]``, orthonormal, float64."""
        ends = (self.singular[:-1] - self.singular[1:] > gap).nonzero().flatten() + 1
        for alike in torch.arange(pairs).tensor_split(ends):
            self._make_canonical(alike, self.even, self.odd)
        for side in (self.even, self.odd):
            self._make_canonical(torch.arange(pairs, side.shape[1]), side)

    @staticmethod
    def _make_canonical(columns: Tensor, *sides: Tensor) -> None:
        """Rotate ``columns``, which belong to one frequency, in place and in all ``sides`` alike."""
        if len(columns):
            found = [side[:, columns] for side in sides]
            rotation = canonical_rotation(torch.cat(found))
            for side, vectors in zip(sides, found, strict=True):
                side[:, columns] = vectors @ rotation

    @property
    def num_units(self) -> int:
        return sum(self.sizes)

    @property
    def num_frequencies(self) -> int:
        return self.even.shape[1] + self.odd.shape[1]

    @property
    def frequencies(self) -> Tensor:
        """Eigenvalues ``[F]``, descending: the positive ones, the zeros of the even side and of the odd one, the negative ones."""
        zeros = self.singular.new_zeros(self.num_frequencies - 2 * len(self.singular))
        return torch.cat([self.singular, zeros, -self.singular.flip(0)])

    def transform(self, signals: Tensor) -> Tensor:
        """Coefficients ``[N, F]`` of ``signals[N, U]``, in their dtype and on their device; computed in float64."""
        layers = signals.to(self.even).split(self.sizes, 1)
        even, odd = torch.cat(layers[::2], 1) @ self.even, torch.cat(layers[1::2], 1) @ self.odd
        pairs = len(self.singular)
        sums, differences = _rotated(even[:, :pairs], odd[:, :pairs])
        return torch.cat([sums, even[:, pairs:], odd[:, pairs:], differences.flip(1)], 1).to(signals)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """The signals ``[N, U]`` that ``coefficients[N, F]`` stand for."""
        pairs = len(self.singular)
        parts = [pairs, self.even.shape[1] - pairs, self.odd.shape[1] - pairs, pairs]
        sums, even, odd, differences = coefficients.to(self.even).split(parts, 1)
        even_pairs, odd_pairs = _rotated(sums, differences.flip(1))
        sides = [torch.cat([even_pairs, even], 1) @ self.even.T, torch.cat([odd_pairs, odd], 1) @ self.odd.T]
        layers = [iter(side.split(self.sizes[first::2], 1)) for first, side in enumerate(sides)]
        return torch.cat([next(layers[index % 2]) for index in range(len(self.sizes))], 1).to(coefficients)

    def matrix(self) -> Tensor:
        """``F[frequencies, units]`` itself, float64."""
        return self.inverse(torch.eye(self.num_frequencies, dtype=torch.float64))


def canonical_rotation(basis: Tensor) -> Tensor:
    """The rotation ``[R, R]`` of orthonormal columns ``basis[U, R]`` that gives a basis of their span which depends on the span alone.

    Its vectors are the projections of single units, the best represented unit first, made orthonormal one after the other: a
    pivoted QR decomposition with positive diagonal. It is as local as it can be, and a small error of the span stays one: unlike
    Householder vectors, for which signs of zeros matter. Slightly different weights of the units decide between units that are
    alike, as in a convolution. For one vector it is a sign: the largest entry, so weighted, becomes positive.
    """
    weighted = (basis * _weights(len(basis))[:, None]).T.numpy()
    rotation, triangle, _ = qr(weighted, mode="economic", pivoting=True, overwrite_a=True)
    return torch.from_numpy(rotation * np.sign(np.diag(triangle)))


def _weights(count: int) -> Tensor:
    """Numbers in [1, 2), no two alike: fixed, and without the symmetries that a matrix may have."""
    return 1 + torch.arange(count, dtype=torch.float64) * GOLDEN % 1


def _rotated(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    return (one + two) / math.sqrt(2), (one - two) / math.sqrt(2)


def _singular_triplets(blocks: Sequence[Block], sizes: list[int], rank: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """``U``, descending singular values and ``V^T`` of `_matrix`: all of them, with the null spaces, or the leading ``rank``."""
    check_size(sizes, rank)
    few = None if rank is None else min(rank, sum(sizes[::2]), sum(sizes[1::2]))
    if few is not None and few < min(sum(sizes[::2]), sum(sizes[1::2])):
        return _leading(blocks, sizes, few)
    return torch.linalg.svd(_matrix(blocks, sizes), full_matrices=few is None)


def check_size(sizes: Sequence[int], rank: int | None) -> None:
    """Raise DfkdError if the basis for layers of ``sizes`` would take more than `LARGEST_BASIS` bytes."""
    num_even, num_odd = sum(sizes[::2]), sum(sizes[1::2])
    few = None if rank is None else min(rank, num_even, num_odd)
    num_bytes = 8 * COPIES * (num_even * (few or num_even) + num_odd * (few or num_odd))
    if num_bytes > LARGEST_BASIS:
        way_out = (
            "set metadata.graph_rank, for its leading frequencies alone" if few is None else "lower metadata.graph_rank"
        )
        raise DfkdError(
            f"the basis of a graph of {num_even + num_odd:,} units takes about {num_bytes / 2**30:.1f} GiB, and at most "
            f"{LARGEST_BASIS / 2**30:.1f} are allowed; {way_out}, or name fewer layers in metadata.layers"
        )


def _matrix(blocks: Sequence[Block], sizes: list[int]) -> Tensor:
    """``M[odd units, even units]``: a row of cells per odd layer, a column per even one."""
    matrix = torch.zeros(sum(sizes[1::2]), sum(sizes[::2]), dtype=torch.float64)
    cells = [row.split(sizes[::2], 1) for row in matrix.split(sizes[1::2])]
    for index, block in enumerate(blocks):
        cells[index // 2][(index + 1) // 2].copy_(block.matrix() if index % 2 == 0 else block.matrix().T)
    return matrix


def _across(blocks: Sequence[Block], sizes: list[int], values: Tensor, to_odd: bool) -> Tensor:
    """``M`` times each row of ``values[N, even units]``, by the blocks alone; or M^T times rows ``[N, odd units]``."""
    start = 0 if to_odd else 1
    given = dict(zip(range(start, len(sizes), 2), values.split(sizes[start::2], 1), strict=True))
    found = {index: values.new_zeros(len(values), sizes[index]) for index in range(1 - start, len(sizes), 2)}
    for index, block in enumerate(blocks):
        if index in given:
            found[index + 1] += block.apply(given[index])
        else:
            found[index] += block.apply_transpose(given[index + 1])
    return torch.cat(list(found.values()), 1)


def _leading(blocks: Sequence[Block], sizes: list[int], rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``rank`` largest singular values of `_matrix` and their vectors, as `torch.linalg.svd` gives them; M is only applied."""
    ahead, back = (partial(_across, blocks, sizes, to_odd=to_odd) for to_odd in (True, False))
    return leading_triplets(ahead, back, (sum(sizes[1::2]), sum(sizes[::2])), rank)


def leading_triplets(
    apply: Callable[[Tensor], Tensor], apply_transpose: Callable[[Tensor], Tensor], shape: tuple[int, int], rank: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``rank`` largest singular values of a matrix M of ``shape``, descending, and their vectors, as `torch.linalg.svd` gives them.

    ``apply``: M times each row of ``[N, columns]``; ``apply_transpose``: M^T times each row of ``[N, rows]``; float64 on the CPU.
    Lanczos iterations from a fixed start, so the same each time. If M is zero, one singular value, which is zero, with zero vectors.
    """

    def by_columns(product: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda vectors: product(torch.from_numpy(vectors.reshape(len(vectors), -1).T)).T.numpy()

    ahead, back = by_columns(apply), by_columns(apply_transpose)
    num_rows, num_columns = shape
    start = _weights(min(shape)).numpy()
    if not (back(start) if num_rows < num_columns else ahead(start)).any():  # Lanczos would have no start
        none = torch.zeros(1, dtype=torch.float64)
        return none.expand(num_rows, 1), none, none.expand(1, num_columns)
    operator = LinearOperator(shape, ahead, back, ahead, dtype=np.float64, rmatmat=back)
    left, singular, right = svds(operator, rank, v0=start)
    order = singular.argsort()[::-1].copy()
    return torch.from_numpy(left[:, order]), torch.from_numpy(singular[order]), torch.from_numpy(right[order])
