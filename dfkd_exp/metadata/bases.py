"""The basis in which a block's coefficients are: found again from the teacher, so that it need not be published."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from dfkd_exp import console
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.chain import check_chain
from dfkd_exp.metadata.fourier import GraphFourier, check_size
from dfkd_exp.metadata.graph import coactivation_blocks, weight_blocks
from dfkd_exp.metadata.storage import decode
from dfkd_exp.models.layers import Layer
from dfkd_exp.models.recording import weights_digest

_computed: dict[tuple[Any, ...], dict[tuple[int, ...], GraphFourier]] = {}
"""The bases that were computed last for a receiver, by what they are of, until it takes them: they may have hundreds of megabytes."""


@dataclass
class Graph:
    """Of what the edges are: the teacher's ``weights``, or the ``coactivation`` of units, for which the class ``means`` ``[K, U]`` of every
    layer are published too. ``rank``: of the basis, None for the whole one. Source: docs/method.md, "Graph Fourier transform"."""

    edges: str = "weights"
    rank: int | None = None
    means: list[Tensor] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by the names that it has in the file."""
        return {f"graph.{index}.mean": mean for index, mean in enumerate(self.means)}

    def to_json(self) -> dict[str, Any]:
        return {"edges": self.edges, "rank": self.rank}

    @classmethod
    def from_json(cls, value: dict[str, Any], tensors: dict[str, Tensor], num_layers: int) -> Graph:
        edges, rank = value["edges"], value["rank"]
        count = num_layers if edges == "coactivation" else 0
        return cls(edges, rank, [decode(f"graph.{index}.mean", tensors) for index in range(count)])


def graph_bases(
    graph: Graph,
    teacher: nn.Module,
    layers: Sequence[Layer],
    inputs: InputSpec,
    chains: Sequence[tuple[int, ...]],
    for_receiver: bool = False,
) -> dict[tuple[int, ...], GraphFourier]:
    """The bases of ``chains`` of consecutive layers, by index. It may take minutes where there are thousands of units, so that what a run's
    owner computes is kept ``for_receiver``, who takes it."""
    of_layers = [(layer.name, layer.side, tuple(layer.shape)) for layer in layers]
    of_what = (
        weights_digest(teacher),
        repr(teacher),
        inputs.shape,
        graph.edges,
        graph.rank,
        *of_layers,
        *_bits(graph.means),
    )
    waiting = _computed.pop(of_what, {})
    if waiting.keys() >= set(chains):
        return waiting
    if graph.edges == "weights":
        edges = weight_blocks(teacher, layers, inputs.shape)
    else:
        edges = coactivation_blocks([mean.cpu().double() for mean in graph.means])
    bases: dict[tuple[int, ...], GraphFourier] = {}
    with console.Progress("graph Fourier bases", len(chains)) as progress:
        for chain in chains:
            if chain not in bases:
                bases[chain] = GraphFourier(edges[chain[0] : chain[-1]], graph.rank)
            progress.advance()
    _computed.clear()
    if for_receiver:
        _computed[of_what] = bases
    return bases


def _bits(tensors: Sequence[Tensor]) -> list[bytes]:
    return [hashlib.sha256(tensor.float().cpu().numpy().tobytes()).digest() for tensor in tensors]


def check_graph(
    graph: Graph, teacher: nn.Module, layers: Sequence[Layer], inputs: InputSpec, chains: Sequence[tuple[int, ...]]
) -> None:
    """Raise DfkdError, in seconds, if `graph_bases` would: if a map between layers is not affine, or a basis too large; or if the layers
    are no chain."""
    if graph.edges == "weights":
        check_chain(teacher, layers, inputs.shape)
        weight_blocks(teacher, layers, inputs.shape)
    for chain in chains:
        check_size([layers[index].num_units for index in chain], graph.rank)
