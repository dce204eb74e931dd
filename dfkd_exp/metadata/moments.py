"""Sums over the images of one class and layer, in one pass that merges: means, variances, and scatters of any view of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

IMAGES_IN_FLOAT32 = 4096
"""So many rows are summed in float32 before the sum is added to one in float64."""

STRIPES = 4
"""A symmetric product is computed in so many stripes, each up to its diagonal: 5/8 of the whole's operations."""

Rows = Callable[[Tensor], Tensor]
"""Deviations ``[N, U]`` to rows ``[M, D]``."""


class Scatter:
    """The sum of ``rows^T rows`` over all images, of the ``rows[M, D]`` of deviations; or its product with ``test_matrix[D, P]``.

    Without a test matrix only the lower triangle is meant: what lies above it is not computed.
    """

    def __init__(self, width: int, test_matrix: Tensor | None = None, rows: Rows = lambda deviations: deviations):
        self.test_matrix, self.rows_of = test_matrix, rows
        columns = width if test_matrix is None else test_matrix.shape[1]
        self.total = torch.zeros(width, columns, dtype=torch.float64)
        self._recent: Tensor | None = None
        self._num_recent = 0

    def add(self, deviations: Tensor) -> None:
        """Add the images of deviations ``[N, U]``."""
        rows = self.rows_of(deviations)
        if self._recent is None:
            self._recent = rows.new_zeros(self.total.shape)
        if self.test_matrix is not None:
            self._recent.addmm_(rows.T, rows @ self.test_matrix.to(rows))
        else:
            for stripe in torch.arange(rows.shape[1]).tensor_split(STRIPES):
                if len(stripe):
                    first, end = int(stripe[0]), int(stripe[-1]) + 1
                    self._recent[first:end, :end].addmm_(rows[:, first:end].T, rows[:, :end])
        self._num_recent += len(rows)
        if self._num_recent >= IMAGES_IN_FLOAT32:
            self.flush()

    def flush(self) -> None:
        """Add what was summed in float32 to the total."""
        if self._recent is not None:
            self.total += self._recent.cpu()
            self._recent, self._num_recent = None, 0

    def of(self, deviation: Tensor) -> Tensor:
        """What one image of float64 ``deviation[U]`` adds."""
        rows = self.rows_of(deviation[None])
        return rows.T @ (rows if self.test_matrix is None else rows @ self.test_matrix.to(rows))


class ClassMoments:
    """Count, mean, squares and scatters of one class and layer, summed about a fixed point close to the mean.

    The point is the mean of the first batch, so that nothing cancels, and a batch costs one product per scatter: no update of
    the mean, no correction. Sums over some thousand images are float32, on the device; beyond, float64.
    Merging is exact: Chan, Golub and LeVeque (1979).
    """

    def __init__(self, num_units: int, scatters: Sequence[Scatter] = ()):
        self.count = 0
        self._point: Tensor | None = None
        self._sums = torch.zeros(num_units, dtype=torch.float64)
        self._squares = torch.zeros(num_units, dtype=torch.float64)
        self._scatters = list(scatters)

    def update(self, values: Tensor) -> None:
        """Add activations ``values[..., U]``, however they lie in memory: without scatters nothing is moved."""
        together = (*range(values.dim() - 1),)
        if self._point is None:
            self._point = values.mean(together)
        deviations = values - self._point.to(values)
        self.count += values.numel() // len(self._sums)
        self._sums += deviations.sum(together).cpu().double()
        for scatter in self._scatters:
            scatter.add(deviations.flatten(0, -2))
        self._squares += deviations.square_().sum(together).cpu().double()

    @property
    def _offset(self) -> Tensor:
        """The mean's distance from the point, ``[U]``, float64."""
        return self._sums / max(self.count, 1)

    @property
    def mean(self) -> Tensor:
        """``[U]``, float64."""
        return self._offset if self._point is None else self._point.cpu().double() + self._offset

    @property
    def squares(self) -> Tensor:
        """Sum of squared deviations from the mean, ``[U]``, float64."""
        return (self._squares - self.count * self._offset.square()).clamp_min(0)

    @property
    def scatters(self) -> list[Tensor]:
        """The scatters about the mean, float64."""
        for scatter in self._scatters:
            scatter.flush()
        return [scatter.total - self.count * scatter.of(self._offset) for scatter in self._scatters]

    def state(self) -> dict[str, Tensor]:
        """All that it has summed, for `with_state` in another process."""
        if self._point is None:
            return {}
        for scatter in self._scatters:
            scatter.flush()
        scatters = {f"scatter{index}": scatter.total for index, scatter in enumerate(self._scatters)}
        count = torch.tensor(self.count)
        return {"count": count, "point": self._point.cpu(), "sums": self._sums, "squares": self._squares, **scatters}

    def with_state(self, state: Mapping[str, Tensor]) -> ClassMoments:
        """Another one of the same shape and scatters that has summed what `state` says."""
        scatters = [Scatter(len(s.total), s.test_matrix, s.rows_of) for s in self._scatters]
        other = ClassMoments(len(self._sums), scatters)
        if state:
            other.count, other._point = int(state["count"]), state["point"]
            other._sums, other._squares = state["sums"], state["squares"]
            for index, scatter in enumerate(scatters):
                scatter.total = state[f"scatter{index}"]
        return other

    def merge(self, other: ClassMoments) -> None:
        """Add another's images."""
        if other.count == 0:
            return
        total = self.count + other.count
        mean = (self.mean * self.count + other.mean * other.count) / total
        squares = torch.zeros_like(mean)
        scatters = [torch.zeros_like(scatter.total) for scatter in self._scatters]
        for part in (self, other):
            delta = part.mean - mean
            squares += part.squares + part.count * delta.square()
            for mine, theirs, scatter in zip(scatters, part.scatters, self._scatters, strict=True):
                mine += theirs + part.count * scatter.of(delta)
        self._point, self.count = mean.float(), total
        offset = mean - self._point.double()
        self._sums, self._squares = offset * total, squares + total * offset.square()
        for scatter, value in zip(self._scatters, scatters, strict=True):
            scatter.total = value + total * scatter.of(offset)
