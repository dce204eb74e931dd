"""Collecting metadata: one streaming pass that merges, in memory that does not grow with the images."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.bases import Graph, graph_bases
from dfkd_exp.metadata.covariance import Diagonal, Full, LowRank, low_rank_factor, pack_symmetric
from dfkd_exp.metadata.differential_privacy import PrivateSums, claimed, noise_multiplier, secret_generator
from dfkd_exp.metadata.metadata import Block, Metadata, as_signals
from dfkd_exp.metadata.moments import ClassMoments, Scatter
from dfkd_exp.metadata.records import Records, Reservoir, image_hash
from dfkd_exp.metadata.separable import Separable
from dfkd_exp.metadata.settings import Gaussian, MetadataKind, Recorded
from dfkd_exp.metadata.storage import rounded
from dfkd_exp.models.recording import find_layers, frozen, recording, weights_digest
from dfkd_exp.seeding import derive_seed

OVERSAMPLING = 16
"""Columns of the sketch beyond the rank; Tropp et al. (2017) find that a few make the error close to the best."""


class Collector:
    """One pass over ``(images, labels)`` batches; memory does not depend on the number of images."""

    def __init__(self, kind: MetadataKind, teacher: nn.Module, inputs: InputSpec):
        self.kind, self.inputs, self.teacher_sha256 = kind, inputs, weights_digest(teacher)
        self.teacher = frozen(teacher)
        device = next((p.device for p in teacher.parameters()), torch.device("cpu"))
        example = inputs.example().to(device)
        self.layers = find_layers(teacher, example, kind.layers)
        with torch.no_grad():
            self.num_classes = teacher(example).shape[1]
        self.in_graph = kind.basis in ("layer_pairs", "all_layers")
        self.chains = self._chains()
        self.gaussians: list[_BlockMoments] = []
        self.reservoir: Reservoir | None = None
        self.means: list[list[ClassMoments]] = []
        if kind.summary == "gaussian":
            self._bases = self._graph_bases() if self.in_graph else {}
            private = isinstance(kind, Gaussian) and kind.dp.epsilon is not None
            self.gaussians = [(_PrivateBlock if private else _BlockMoments)(self, chain) for chain in self.chains]
        else:
            assert isinstance(kind, Recorded)
            units = [layer.num_units for layer in self.layers]
            self.reservoir = Reservoir(self.num_classes, kind.records_per_class, sum(units))
            if self.in_graph and kind.graph == "coactivation":
                self.means = [[ClassMoments(size) for _ in range(self.num_classes)] for size in units]

    def _chains(self) -> list[tuple[int, ...]]:
        """The layers of each block."""
        count = len(self.layers)
        if self.in_graph and count < 2:
            raise DfkdError(
                f"a graph joins at least two layers, and metadata.layers={self.kind.layers} has only {self.layers[0].name}; "
                "name another one, or choose metadata=top_layer"
            )
        if self.kind.basis == "layer_pairs":
            return [(index, index + 1) for index in range(count - 1)]
        if self.kind.basis == "all_layers" or self.kind.summary == "records":
            return [tuple(range(count))]
        return [(index,) for index in range(count)]

    def _graph_bases(self, graph: Graph | None = None) -> dict[tuple[int, ...], Any]:
        graph = graph or Graph(rank=self.kind.graph_rank)  # type: ignore[attr-defined]
        return graph_bases(graph, self.teacher, self.layers, self.inputs, self.chains)

    def coefficients(self, chain: tuple[int, ...], signals: list[Tensor]) -> Tensor:
        """What is summarised of the layers of one block: ``[N, F]``."""
        values = torch.cat([signals[index] for index in chain], 1) if len(chain) > 1 else signals[chain[0]]
        return self._bases[chain].transform(values) if self.in_graph else values

    @torch.no_grad()
    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add a batch: ``images[N, C, H, W]`` as the teacher takes them, ``labels[N]``."""
        unknown = labels[(labels < 0) | (labels >= self.num_classes)]
        if len(unknown):
            raise DfkdError(f"labels must be 0 to {self.num_classes - 1}, the teacher's classes; got {int(unknown[0])}")
        with recording(self.teacher, [layer.name for layer in self.layers]) as recorder:
            recorded = [output.flatten(1).float() for output in recorder(images)]
        signals = as_signals(recorded, self.kind.signal, self.kind.temperature)
        if self.reservoir:
            # NaN would lie unseen in an image that is not chosen.
            if not all(values.isfinite().all() for values in signals):
                raise DfkdError("the teacher's outputs hold NaN or infinite values; check the teacher and the images")
            everything, priorities = torch.cat(signals, 1), image_hash(images)
        for label in labels.unique().tolist():
            rows = (labels == label).nonzero().squeeze(1).to(images.device)
            whole = len(rows) == len(labels)
            if self.reservoir:
                self.reservoir.update(label, priorities[rows], everything[rows])
            for moments, values in zip(self.means, signals, strict=False):
                moments[label].update(values if whole else values[rows])
            own = signals if whole or not self.gaussians else [values[rows] for values in signals]
            for block in self.gaussians:
                block.classes[label].update(self.coefficients(block.chain, own))

    def merge(self, other: Collector) -> None:
        """Add what another collector of the same teacher and kind has seen. Raises DfkdError if it is of another."""
        if (self.kind, self.layers, self.teacher_sha256) != (other.kind, other.layers, other.teacher_sha256):
            raise DfkdError("only collections of one teacher's same layers, for one kind of metadata, can be merged")
        for mine, theirs in zip(self._moments(), other._moments(), strict=True):
            mine.merge(theirs)
        if self.reservoir and other.reservoir:
            self.reservoir.merge(other.reservoir)

    def _moments(self) -> list[ClassMoments]:
        """Of every block, and of every layer on a graph of coactivations, class by class."""
        groups = [*(block.classes for block in self.gaussians), *self.means]
        return list(itertools.chain.from_iterable(groups))

    def state(self) -> dict[str, Tensor]:
        """What it has seen, as tensors by name, for `merge_state` in another process."""
        parts: dict[str, ClassMoments | Reservoir] = {str(i): moments for i, moments in enumerate(self._moments())}
        if self.reservoir:
            parts["reservoir"] = self.reservoir
        return {f"{part}/{name}": tensor for part, held in parts.items() for name, tensor in held.state().items()}

    def merge_state(self, state: dict[str, Tensor]) -> None:
        """Add what the `state` of another collector of the same teacher and kind has seen."""
        parts: dict[str, dict[str, Tensor]] = {}
        for path, tensor in state.items():
            part, _, name = path.partition("/")
            parts.setdefault(part, {})[name] = tensor
        for index, moments in enumerate(self._moments()):
            moments.merge(moments.with_state(parts.get(str(index), {})))
        if self.reservoir:
            self.reservoir.merge(self.reservoir.with_state(parts["reservoir"]))

    def finish(self) -> Metadata:
        """The metadata. Raises DfkdError if a class has no images or a statistic is not finite."""
        counts = self.reservoir.counts if self.reservoir else [moments.count for moments in self.gaussians[0].classes]
        empty = [label for label, count in enumerate(counts) if count == 0]
        if empty:
            raise DfkdError(
                f"class {empty[0]} has no images, so it has no statistics; remove it from the data and the teacher"
            )
        graph = None
        if self.in_graph:
            means = [torch.stack([m.mean.float() for m in classes]) for classes in self.means]
            means = [rounded("mean", mean, self.kind.storage) for mean in means]
            graph = Graph(self.kind.graph, self.kind.graph_rank, means)  # type: ignore[attr-defined]
        private = isinstance(self.kind, Gaussian) and self.kind.dp.epsilon is not None
        claim = {"dp": claimed(self.kind.dp, len(self.layers))} if private else {}  # type: ignore[attr-defined]
        metadata = Metadata(
            layers=self.layers,
            blocks=self._records(graph) if self.reservoir else [block.finish() for block in self.gaussians],
            temperature=self.kind.temperature,
            counts=counts,
            inputs=self.inputs,
            teacher_sha256=self.teacher_sha256,
            kind={"name": type(self.kind).__name__, **self.kind.described(), **claim},
            signal=self.kind.signal,
            storage=self.kind.storage,
            dropout_masks=self.kind.dropout_masks,
            graph=graph,
        )
        metadata.check_finite("metadata")
        return metadata

    def _records(self, graph: Graph | None) -> list[Block]:
        """The reservoir's signals, each block's by their largest coefficients."""
        assert self.reservoir is not None
        assert isinstance(self.kind, Recorded)
        layers = self.reservoir.signals().split([layer.num_units for layer in self.layers], 2)
        self._bases = self._graph_bases(graph) if graph else {}
        blocks = []
        for chain in self.chains:
            coefficients = self.coefficients(chain, [values.flatten(0, 1) for values in layers])
            if not coefficients.shape[1]:
                raise DfkdError(
                    f"no two units of {self.layers[chain[0]].name} to {self.layers[chain[-1]].name} are joined, so the graph has no "
                    "leading frequencies; leave metadata.graph_rank empty"
                )
            kept = max(1, round(self.kind.fraction * coefficients.shape[1]))
            records = Records.largest(coefficients.view(*layers[0].shape[:2], -1), kept)
            records.values = rounded("values", records.values, self.kind.storage)
            blocks.append(Block(chain, "graph" if graph else "units", records))
        return blocks


class _BlockMoments:
    """The moments of one block's coefficients, a class at a time."""

    def __init__(self, collector: Collector, chain: tuple[int, ...]):
        assert isinstance(collector.kind, Gaussian)
        self.chain, self.kind, self.in_graph = chain, collector.kind, collector.in_graph
        layers = [collector.layers[index] for index in chain]
        is_top = layers[0] is collector.layers[-1]
        shape = layers[0].shape
        self.name = "+".join(layer.name for layer in layers)
        self.size = sum(layer.num_units for layer in layers)
        if collector.in_graph:
            self.size = collector._bases[chain].num_frequencies
        self.form = self.kind.form_for(self.size, is_top)
        self.map_shape = (1, 1)
        if self.kind.basis == "separable" and len(shape) == 3 and shape[1] * shape[2] > 1:
            self.form, self.map_shape = "separable", (shape[0], shape[1] * shape[2])
        self.classes = [ClassMoments(self.size, self._scatters()) for _ in range(collector.num_classes)]

    def _scatters(self) -> list[Scatter]:
        channels, locations = self.map_shape
        if self.form == "separable":
            self.test_matrix = self._test_matrix(locations)
            return [
                Scatter(channels, None, lambda deviations: _channels_last(deviations, channels)),
                Scatter(locations, self.test_matrix, lambda deviations: deviations.reshape(-1, locations)),
            ]
        if self.form == "low_rank":
            self.test_matrix = self._test_matrix(self.size)
            return [Scatter(self.size, self.test_matrix)]
        return [Scatter(self.size)] if self.form == "full" else []

    def _test_matrix(self, size: int) -> Tensor:
        """Gaussian, and the same for every collector of this block, so that sketches merge."""
        generator = torch.Generator().manual_seed(derive_seed("sketch", self.name, size))
        return torch.randn(size, min(self.kind.rank + OVERSAMPLING, size), generator=generator)

    def finish(self) -> Block:
        """Unbiased estimates (divided by n - 1), K classes stacked."""
        parts: dict[str, list[Tensor]] = {"mean": [moments.mean for moments in self.classes]}
        for moments in self.classes:
            for name, value in self._estimates(moments, 1 / max(moments.count - 1, 1)).items():
                parts.setdefault(name, []).append(value)
        stacked = {n: rounded(n, torch.stack(v).float(), self.kind.storage) for n, v in parts.items()}
        summary: Any = {"diagonal": Diagonal, "full": Full, "low_rank": LowRank, "separable": Separable}[self.form]
        return Block(self.chain, "graph" if self.in_graph else "units", summary(**stacked))

    def _estimates(self, moments: ClassMoments, scale: float) -> dict[str, Tensor]:
        """What is kept of one class beside the mean."""
        variance = moments.squares * scale
        if self.form == "diagonal":
            return {"variance": variance}
        if self.form == "full":
            return {"covariance": pack_symmetric(moments.scatters[0] * scale)}
        if self.form == "low_rank":
            factor = low_rank_factor(moments.scatters[0] * scale, self.test_matrix, self.kind.rank).double()
            return {"factor": factor, "variance": (variance - factor.square().sum(1)).clamp_min(0)}
        channels, locations = self.map_shape
        by_channel, by_location = moments.scatters
        total = (variance.sum() / locations).clamp_min(1e-30)  # the trace of the channels' covariance
        rank = min(self.kind.rank, locations)  # columns beyond would be zeros
        factor = low_rank_factor(by_location * (scale / total), self.test_matrix, rank).double()
        rest = variance.view(channels, locations).sum(0) / total - factor.square().sum(1)
        return {
            "channels": pack_symmetric(by_channel * (scale / locations)),
            "factor": factor,
            "variance": rest.clamp_min(0),
        }


class _PrivateBlock(_BlockMoments):
    """The sums of one layer, released with noise."""

    def __init__(self, collector: Collector, chain: tuple[int, ...]):
        super().__init__(collector, chain)
        self.form = "full" if self.form == "full" and collector.layers[chain[0]] is collector.layers[-1] else "diagonal"
        self.noise = noise_multiplier(self.kind.dp, len(collector.layers))
        sums = [PrivateSums(self.size, self.kind.dp.clip, self.form == "full") for _ in range(collector.num_classes)]
        self.classes: list[Any] = sums

    def finish(self) -> Block:
        generator = secret_generator()
        released = [sums.released(self.noise, generator) for sums in self.classes]
        mean, spread = (torch.stack([parts[index] for parts in released]).float() for index in range(2))
        name = "covariance" if self.form == "full" else "variance"
        stored = {"mean": mean, name: pack_symmetric(spread) if self.form == "full" else spread}
        stored = {n: rounded(n, value, self.kind.storage) for n, value in stored.items()}
        return Block(self.chain, "units", (Full if self.form == "full" else Diagonal)(**stored))


def _channels_last(deviations: Tensor, channels: int) -> Tensor:
    """``[N, C * L]`` to ``[N * L, C]``."""
    return deviations.view(len(deviations), channels, -1).transpose(1, 2).reshape(-1, channels)


def observed_inputs(batches: Iterable[tuple[Tensor, Tensor]]) -> InputSpec:
    """Shape and per-channel range of the images in ``batches``."""
    images = [images for images, _ in batches]
    if not images:
        raise DfkdError("there are no batches to collect metadata from")
    low = torch.stack([x.amin((0, 2, 3)) for x in images]).amin(0)
    high = torch.stack([x.amax((0, 2, 3)) for x in images]).amax(0)
    channels, height, width = images[0].shape[1:]
    return InputSpec((channels, height, width), tuple(low.tolist()), tuple(high.tolist()))
