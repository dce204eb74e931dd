"""Any combination of layers, basis and summary, as settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dfkd_exp.errors import ConfigError
from dfkd_exp.metadata.gaussian import Gaussian
from dfkd_exp.metadata.spatial import is_map
from dfkd_exp.metadata.spectral import Recorded, chains

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.gaussian_sums import Place
    from dfkd_exp.metadata.statistic import Accumulator
    from dfkd_exp.models.layers import Layer
    from dfkd_exp.models.view import View

BASES = ("units", "channels", "separable", "layer_pairs", "all_layers")
GRAPH_BASES = ("layer_pairs", "all_layers")
SUMMARIES = ("gaussian", "records")


@dataclass
class Composed(Gaussian, Recorded):
    """Any other combination: ``metadata=composed metadata.basis=layer_pairs metadata.summary=gaussian metadata.covariance=diagonal``."""

    basis: str = "units"
    """What is summarised: units as they are; channels, all locations together; feature maps by channels and locations (separable); graph
    Fourier coefficients, on a graph for each pair of consecutive layers (layer_pairs) or on one over all of them (all_layers)."""
    summary: str = "gaussian"
    """How it is summarised: gaussian, or records: the largest coefficients of some images."""
    masks: bool = False
    """Images are made through a teacher that is masked by its own dropout."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("basis", BASES)
        self.require_choice("summary", SUMMARIES)
        records = self.summary == "records"
        maps = ("separable", "channels")
        self.require("basis", not (records and self.basis in maps), "another one with metadata.summary=records")
        self.require(
            "pixels",
            self.pixels == "none" or (self.basis in ("units", "channels") and not records),
            "none but for Gaussians of units or channels",
        )
        self.require("class_rank", not (records and self.class_rank), "0 with metadata.summary=records")
        two_passes = self.basis in GRAPH_BASES and not records and self.graph == "coactivation"
        self.require("graph", not two_passes, "weights with metadata.summary=gaussian: its means are needed beforehand")
        if self.dp.epsilon is not None and (records or self.basis not in ("units", "channels")):
            raise ConfigError("metadata.dp.epsilon is for Gaussians of units or channels: set metadata.basis=units")

    @property
    def sized_beforehand(self) -> bool:
        return self.summary == "gaussian" and self.basis not in GRAPH_BASES

    @property
    def dropout_masks(self) -> bool:
        return self.masks

    @property
    def records_pairs(self) -> bool:
        return self.summary == "records" and super().records_pairs

    @property
    def chain(self) -> str:
        return self.basis if self.basis in GRAPH_BASES else "none"

    def accumulators(
        self, teacher: nn.Module, layers: Sequence[Layer], inputs: InputSpec, num_classes: int
    ) -> list[Accumulator]:
        if self.summary == "records":
            return Recorded.accumulators(self, teacher, layers, inputs, num_classes)
        if self.basis not in GRAPH_BASES:
            return Gaussian.accumulators(self, teacher, layers, inputs, num_classes)
        from dfkd_exp.metadata.bases import Graph, graph_bases

        graph = Graph(rank=self.graph_rank)
        bases = graph_bases(graph, teacher, layers, inputs, chains(self.chain, layers), for_receiver=True)
        places = (replace(place, graph=graph, basis=bases[place.layers]) for place in self.places(layers, num_classes))
        return [self.sums(place, len(layers)) for place in places]

    def places(self, layers: Sequence[Layer], num_classes: int) -> list[Place]:
        """Of units or channels; coefficients in a graph's basis, which is not known yet, are as many as the units of its layers."""
        from dfkd_exp.metadata.gaussian_sums import Place

        if self.basis not in GRAPH_BASES:
            return super().places(layers, num_classes)
        groups = chains(self.basis, layers)
        return [Place(group, tuple(layers[index] for index in group), num_classes) for group in groups]

    def view(self, layer: Layer) -> View | None:
        from dfkd_exp.models.regions import regions_of

        return super().view(layer) or (regions_of(layer, 1) if self.basis == "channels" else None)

    def check_memory(self, layers: Sequence[Layer], num_classes: int) -> None:
        (Recorded if self.summary == "records" else Gaussian).check_memory(self, layers, num_classes)

    def form_of(self, place: Place, num_layers: int) -> str:
        return "separable" if self.basis == "separable" and is_map(place) else super().form_of(place, num_layers)
