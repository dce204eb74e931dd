"""Records of single images by their largest graph Fourier coefficients: the paper's spectral kinds, as settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.choices import GRAPHS
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.metadata.memory import check_room

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.statistic import Accumulator
    from dfkd_exp.models.layers import Layer


@dataclass
class Recorded(MetadataKind):
    """Records: the activations of some images per class, each by its largest coefficients."""

    fraction: float = 0.1
    """Share of the coefficients that is kept of each record (paper: 0.1)."""
    records_per_class: int = 100
    """Images per class whose activations are recorded."""
    graph: str = "weights"
    """Edges between units of consecutive layers: the teacher's weights, or the coactivation of their class means."""
    graph_rank: int | None = None
    """Only so many pairs of leading frequencies of each graph are used; empty: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("fraction", 0 < self.fraction <= 1, "in (0, 1]")
        self.require("records_per_class", self.records_per_class >= 1, "at least 1")
        self.require_choice("graph", GRAPHS)
        self.require("graph_rank", self.graph_rank is None or self.graph_rank >= 1, "at least 1, or empty")

    @property
    def chain(self) -> str:
        """What a graph joins: layer_pairs, all_layers, or none if there is no graph."""
        return "none"

    def basis_sizes(self, layers: Sequence[Layer]) -> list[list[int]]:
        if self.chain == "none" or self.graph_rank is not None:
            return []
        return [[layers[index].num_units for index in joined] for joined in chains(self.chain, layers)]

    @property
    def records_pairs(self) -> bool:
        return self.chain == "layer_pairs"

    def check_layers(self, teacher: nn.Module, layers: Sequence[Layer], inputs: InputSpec) -> None:
        joined = chains(self.chain, layers)
        if self.chain != "none":
            from dfkd_exp.metadata.bases import Graph, check_graph

            check_graph(Graph(self.graph, self.graph_rank), teacher, layers, inputs, joined)

    def check_memory(self, layers: Sequence[Layer], num_classes: int) -> None:
        # In float32, and once more, of one class after another, as they are finished.
        units = sum(layers[index].num_units for joined in chains(self.chain, layers) for index in joined)
        check_room(
            2 * 4 * num_classes * self.records_per_class * units,
            f"{self.records_per_class:,} records of each of {num_classes:,} classes",
            "metadata=channels, metadata.layers=dense or fewer metadata.records_per_class take less",
        )

    def accumulators(
        self, teacher: nn.Module, layers: Sequence[Layer], inputs: InputSpec, num_classes: int
    ) -> list[Accumulator]:
        from dfkd_exp.metadata.bases import Graph, graph_bases
        from dfkd_exp.metadata.recorded import RecordedSignals

        joined = chains(self.chain, layers)
        count = (layers, joined, num_classes, self.records_per_class, self.fraction)
        if self.chain == "none":
            return [RecordedSignals(*count)]
        graph = Graph(self.graph, self.graph_rank)
        return [
            RecordedSignals(
                *count, graph, lambda known: graph_bases(known, teacher, layers, inputs, joined, for_receiver=True)
            )
        ]


def chains(chain: str, layers: Sequence[Layer]) -> list[tuple[int, ...]]:
    """The layers that are joined, by index: consecutive pairs, or all. Raises DfkdError if there is nothing to join."""
    count = len(layers)
    if chain != "none" and count < 2:
        raise DfkdError(
            f"a graph joins at least two layers, and metadata.layers names only {layers[0].name}; name another one, or choose "
            "metadata=top_layer"
        )
    return [(index, index + 1) for index in range(count - 1)] if chain == "layer_pairs" else [tuple(range(count))]


@dataclass
class SpectralAllLayers(Recorded):
    """The paper's ``spectral_all_layers``: records by their largest graph Fourier coefficients, on one graph over all recorded units."""

    @property
    def chain(self) -> str:
        return "all_layers"


@dataclass
class SpectralLayerPairs(Recorded):
    """The paper's ``spectral_layer_pairs``: the same on one graph for each pair of consecutive recorded layers."""

    @property
    def chain(self) -> str:
        return "layer_pairs"
