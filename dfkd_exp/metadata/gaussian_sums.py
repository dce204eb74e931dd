"""What accumulates for a Gaussian: sums over the images of each class, or of all, of the values of some layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from dfkd_exp.metadata.bases import Graph
from dfkd_exp.metadata.covariance import Diagonal, Full, LowRank, low_rank_factor, pack_symmetric
from dfkd_exp.metadata.differential_privacy import PrivateSums
from dfkd_exp.metadata.fourier import GraphFourier
from dfkd_exp.metadata.moments import ClassMoments, Scatter
from dfkd_exp.metadata.separable import Separable
from dfkd_exp.metadata.shared import Shared
from dfkd_exp.metadata.statistic import Accumulator, Observed, Statistic, Summary, joined, parted
from dfkd_exp.metadata.storage import rounded
from dfkd_exp.models.layers import Layer
from dfkd_exp.models.view import View
from dfkd_exp.seeding import derive_seed

OVERSAMPLING = 16
"""Columns of the sketch beyond the rank; Tropp et al. (2017) find that a few make the error close to the best."""

SUMMARIES: dict[str, type[Summary]] = {c.form: c for c in (Diagonal, Full, LowRank, Separable, Shared)}


@dataclass(frozen=True)
class Place:
    """Of what sums are: some ``layers``, by index, and what they are (``recorded``); of each unit, or of a ``view`` of one layer, or
    of coefficients in the ``basis`` of a ``graph``; of each class or, with ``scope="all"``, of all images."""

    layers: tuple[int, ...]
    recorded: tuple[Layer, ...]
    num_classes: int
    scope: str = "class"
    view: View | None = None
    graph: Graph | None = None
    basis: GraphFourier | None = None

    @property
    def num_values(self) -> int:
        if self.basis is not None:
            return self.basis.num_frequencies
        return self.view.num_values if self.view else sum(layer.num_units for layer in self.recorded)

    @property
    def num_rows(self) -> int:
        return self.num_classes if self.scope == "class" else 1

    @property
    def name(self) -> str:
        return "+".join(layer.name for layer in self.recorded)

    def values(self, signals: Sequence[Tensor]) -> Tensor:
        """``[N, M, F]`` of the signals of all recorded layers: M values of each image, more than one where locations are put together."""
        if self.view:
            return self.view.gathered(signals[self.layers[0]])
        flat = [signals[index].flatten(1) for index in self.layers]
        values = torch.cat(flat, 1) if len(flat) > 1 else flat[0]
        return (values if self.basis is None else self.basis.transform(values))[:, None]

    def by_row(self, batch: Observed) -> list[tuple[int, Tensor]]:
        """The values of a batch for each row of the statistic."""
        if self.scope == "all":
            return [(0, self.values(batch.signals))]
        return [(label, self.values(signals)) for label, _, signals in batch.by_class]

    def statistic(self, summary: Summary) -> Statistic:
        basis = "graph" if self.graph else self.view.basis if self.view else "units"
        grid = self.view.grid if self.view and self.view.basis != "channels" else None
        return Statistic(self.layers, summary, basis, self.scope, self.graph, grid)


def num_sums(place: Place, form: str, rank: int) -> int:
    """How many numbers the products are that are summed for covariances of ``form``, of all rows together."""
    size, columns = place.num_values, rank + OVERSAMPLING
    if form == "separable":
        channels = place.recorded[0].num_channels
        locations = size // channels
        return place.num_rows * (channels**2 + locations * min(columns, locations))
    return place.num_rows * size * {"full": size, "low_rank": min(columns, size)}.get(form, 0)


class GaussianSums(Accumulator):
    """Means and covariances of ``form``: diagonal, full, low_rank or separable, the latter two of ``rank``, or shared, diagonal ones of
    classes that differ along ``rank`` directions; unbiased, over images or, where locations are put together, over all of their values."""

    def __init__(self, place: Place, form: str, rank: int):
        self.place, self.form, self.rank = place, form, rank
        self.test_matrix = torch.empty(0)
        """Of sketches, if the form has any: one for all rows."""
        if form in ("low_rank", "separable"):
            self.test_matrix = self._test_matrix(self._map_shape[1] if form == "separable" else place.num_values)
        self.rows: list[Any] = [self._row() for _ in range(place.num_rows)]

    def _row(self) -> Any:
        return ClassMoments(self.place.num_values, self._scatters())

    def _scatters(self) -> list[Scatter]:
        size = self.place.num_values
        if self.form == "separable":
            channels, locations = self._map_shape
            return [
                Scatter(channels, None, lambda deviations: _channels_last(deviations, channels)),
                Scatter(locations, self.test_matrix, lambda deviations: deviations.reshape(-1, locations)),
            ]
        if self.form == "low_rank":
            return [Scatter(size, self.test_matrix)]
        return [Scatter(size)] if self.form == "full" else []

    @property
    def _map_shape(self) -> tuple[int, int]:
        [layer] = self.place.recorded
        return layer.num_channels, layer.num_units // layer.num_channels

    def _test_matrix(self, size: int) -> Tensor:
        """Gaussian, and the same for every accumulator of this place, so that sketches merge."""
        generator = torch.Generator().manual_seed(derive_seed("sketch", self.place.name, size))
        return torch.randn(size, min(self.rank + OVERSAMPLING, size), generator=generator)

    def observe(self, batch: Observed) -> None:
        for row, values in self.place.by_row(batch):
            self.rows[row].update(values)

    def merge(self, other: Self) -> None:
        for mine, theirs in zip(self.rows, other.rows, strict=True):
            mine.merge(theirs)

    def state(self) -> dict[str, Tensor]:
        return joined({row: sums.state() for row, sums in enumerate(self.rows)})

    def with_state(self, state: Mapping[str, Tensor]) -> Self:
        other, parts = copy(self), parted(state)
        other.rows = [sums.with_state(parts[str(row)]) for row, sums in enumerate(self.rows)]
        return other

    def finish(self, storage: str) -> list[Statistic]:
        return [self.place.statistic(self._stacked([self._estimates(moments) for moments in self.rows], storage))]

    def _stacked(self, rows: list[dict[str, Tensor]], storage: str) -> Summary:
        stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        form = self.form
        if form == Shared.form and not stacked["variance"].any():
            form = Diagonal.form  # nothing varies: there are no units to tell classes apart in
        if form == Shared.form:
            stacked = Shared.of(**stacked, rank=self.rank).tensors()
        if "factor" in stacked:  # what it leaves of each variance, as it is stored: then these are exact
            stacked["factor"] = rounded("factor", stacked["factor"].float(), storage)
            explained = stacked["factor"].double().square().sum(-1)
            stacked["variance"] = (stacked["variance"] - explained).clamp_min(0)
        return SUMMARIES[form](**{name: rounded(name, values.float(), storage) for name, values in stacked.items()})

    def _estimates(self, moments: ClassMoments) -> dict[str, Tensor]:
        """What is kept of one row, with the whole variances beside a factor: estimates divided by n - 1."""
        scale = 1 / max(moments.count - 1, 1)
        variance, kept = moments.squares * scale, {"mean": moments.mean}
        if self.form in ("diagonal", "shared"):
            return {**kept, "variance": variance}
        if self.form == "full":
            return {**kept, "covariance": pack_symmetric(moments.scatters[0] * scale)}
        if self.form == "low_rank":
            factor = low_rank_factor(moments.scatters[0] * scale, self.test_matrix, self.rank)
            return {**kept, "factor": factor, "variance": variance}
        channels, locations = self._map_shape
        by_channel, by_location = moments.scatters
        total = (variance.sum() / locations).clamp_min(1e-30)  # the trace of the channels' covariance
        rank = min(self.rank, locations)  # columns beyond would be zeros
        return {
            **kept,
            "channels": pack_symmetric(by_channel * (scale / locations)),
            "factor": low_rank_factor(by_location * (scale / total), self.test_matrix, rank),
            "variance": variance.view(channels, locations).sum(0) / total,
        }


class PrivateGaussianSums(GaussianSums):
    """The same with differential privacy: clipped sums that get noise of ``noise`` times their sensitivity as they are finished."""

    def __init__(self, place: Place, form: str, clip: float, noise: float):
        self.clip, self.noise = clip, noise
        super().__init__(place, form, rank=0)

    def _row(self) -> PrivateSums:
        return PrivateSums(self.place.num_values, self.clip, self.form == "full")

    def finish(self, storage: str) -> list[Statistic]:
        spread = "covariance" if self.form == "full" else "variance"
        released = [sums.released(self.noise) for sums in self.rows]
        kept = [{"mean": mean, spread: pack_symmetric(s) if self.form == "full" else s} for mean, s in released]
        return [self.place.statistic(self._stacked(kept, storage))]


def _channels_last(deviations: Tensor, channels: int) -> Tensor:
    """``[N, C * L]`` to ``[N * L, C]``."""
    return deviations.view(len(deviations), channels, -1).transpose(1, 2).reshape(-1, channels)
