"""What accumulates for records: the activations of some images of each class, and what a graph of coactivations is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Self

import torch
from torch import Tensor

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.bases import Graph
from dfkd_exp.metadata.fourier import GraphFourier
from dfkd_exp.metadata.moments import ClassMoments
from dfkd_exp.metadata.records import Records
from dfkd_exp.metadata.reservoir import Reservoir
from dfkd_exp.metadata.statistic import Accumulator, Observed, Statistic, joined, parted
from dfkd_exp.metadata.storage import rounded
from dfkd_exp.models.layers import Layer

Chain = tuple[int, ...]
"""Consecutive recorded layers, by index."""


class RecordedSignals(Accumulator):
    """The signals of ``records_per_class`` images of each class, of which in the end the share ``fraction`` of the coefficients is kept:
    of the values of each of ``chains`` of layers, or of their coefficients in the bases of a ``graph`` (`Graph`, whose ``means`` are
    still to be collected), which ``find_bases(graph)`` computes."""

    def __init__(
        self,
        layers: Sequence[Layer],
        chains: Sequence[Chain],
        num_classes: int,
        records_per_class: int,
        fraction: float,
        graph: Graph | None = None,
        find_bases: Callable[[Graph], Mapping[Chain, GraphFourier]] = lambda graph: {},
    ):
        self.layers, self.chains, self.fraction, self.graph, self.find_bases = (
            layers,
            chains,
            fraction,
            graph,
            find_bases,
        )
        units = [layer.num_units for layer in layers]
        self.reservoir = Reservoir(num_classes, records_per_class, sum(units))
        needed = units if graph and graph.edges == "coactivation" else []
        self.means = [[ClassMoments(size) for _ in range(num_classes)] for size in needed]

    def observe(self, batch: Observed) -> None:
        everything = torch.cat([values.flatten(1) for values in batch.signals], 1)
        if not everything.isfinite().all():  # it would lie unseen in an image that is not chosen
            raise DfkdError("the teacher's outputs hold NaN or infinite values; check the teacher and the images")
        priorities = batch.hashes().to(everything.device)
        for label, rows, signals in batch.by_class:
            self.reservoir.update(label, priorities[rows], everything[rows])
            for moments, values in zip(self.means, signals, strict=False):
                moments[label].update(values.flatten(1))

    def merge(self, other: Self) -> None:
        self.reservoir.merge(other.reservoir)
        for mine, theirs in zip(self.means, other.means, strict=True):
            for own, added in zip(mine, theirs, strict=True):
                own.merge(added)

    def state(self) -> dict[str, Tensor]:
        means = {
            layer: joined(dict(enumerate(own.state() for own in moments))) for layer, moments in enumerate(self.means)
        }
        return joined({"reservoir": self.reservoir.state(), **means})

    def with_state(self, state: Mapping[str, Tensor]) -> Self:
        other, parts = copy(self), parted(state)
        other.reservoir = self.reservoir.with_state(parts["reservoir"])
        by_layer = [parted(parts[str(layer)]) for layer in range(len(self.means))]
        other.means = [
            [own.with_state(seen[str(label)]) for label, own in enumerate(moments)]
            for moments, seen in zip(self.means, by_layer, strict=True)
        ]
        return other

    def finish(self, storage: str) -> list[Statistic]:
        graph = self.graph
        if graph is not None:
            means = [torch.stack([own.mean.float() for own in moments]) for moments in self.means]
            graph = Graph(graph.edges, graph.rank, [rounded("mean", mean, storage) for mean in means])
        bases = self.find_bases(graph) if graph else {}
        sizes = [layer.num_units for layer in self.layers]
        by_class = [signals.split(sizes, 1) for signals in self.reservoir.signals()]
        return [self._statistic(chain, by_class, graph, bases.get(chain), storage) for chain in self.chains]

    def _statistic(
        self,
        chain: Chain,
        by_class: Sequence[Sequence[Tensor]],
        graph: Graph | None,
        basis: GraphFourier | None,
        storage: str,
    ) -> Statistic:
        if basis is not None and not basis.num_frequencies:
            raise DfkdError(
                f"no two units of {self.layers[chain[0]].name} to {self.layers[chain[-1]].name} are joined, so the graph has no "
                "leading frequencies; leave metadata.graph_rank empty"
            )
        # A class at a time: the coefficients of all, in float64, are far more than what is kept of them.
        classes = [self._largest(torch.cat([signals[index] for index in chain], 1), basis) for signals in by_class]
        values, indices = (torch.cat(parts) for parts in zip(*((c.values, c.indices) for c in classes), strict=True))
        records = Records(rounded("values", values, storage), indices, classes[0].coefficients)
        return Statistic(chain, records, "graph" if graph else "units", graph=graph)

    def _largest(self, values: Tensor, basis: GraphFourier | None) -> Records:
        """The records of one class, of its ``values[N, U]``."""
        coefficients = values if basis is None else basis.transform(values)
        return Records.largest(coefficients[None], max(1, round(self.fraction * coefficients.shape[1])))
