"""Metadata: what is kept of a teacher's activations, and in the teacher's presence what images are matched with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import file
from dfkd_exp.metadata.bases import Graph, graph_bases
from dfkd_exp.metadata.matchable import Matchable
from dfkd_exp.metadata.statistic import Statistic
from dfkd_exp.metadata.storage import encode, num_bytes
from dfkd_exp.models.layers import Layer, axes_of, images_of
from dfkd_exp.models.recording import borrowed, device_of, recording, weights_digest


@dataclass
class Metadata:
    """A summary of the activations of the recorded layers; the logits, if they are recorded, come last and are divided by ``temperature``.

    ``counts``: images per class that it was collected from, None if none were needed. ``teacher_sha256``: the weights that it belongs to.
    ``signal``: before_relu or after_relu, but for the logits. ``storage``: the numbers' type in the file, to which they have been rounded.
    ``dropout_masks``: the teacher is to be masked while images are made.
    """

    layers: list[Layer]
    statistics: list[Statistic]
    temperature: float
    num_classes: int
    counts: list[int] | None
    inputs: InputSpec
    teacher_sha256: str
    kind: dict[str, Any]
    signal: str = "before_relu"
    storage: str = "fp32"
    dropout_masks: bool = False

    @property
    def layer_names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    @property
    def graph(self) -> Graph | None:
        """That in whose basis statistics are, if some are."""
        return next((statistic.graph for statistic in self.statistics if statistic.graph), None)

    @property
    def num_bytes(self) -> int:
        """Bytes of the statistics themselves; the file's header of a few hundred more is not counted."""
        return self._num_bytes(self._plain())

    @property
    def num_recorded(self) -> int | None:
        """How many images of each class it holds the activations of; None if of none."""
        counts = (statistic.summary.num_images for statistic in self.statistics)
        return next((count for count in counts if count is not None), None)

    def resolved(self, teacher: nn.Module, kept: Mapping[str, Tensor] | None = None) -> ResolvedMetadata:
        """Every statistic in values of its layers, from which targets can be drawn. The bases of graphs follow from the teacher, and may
        take minutes, unless ``kept``: what `ResolvedMetadata.kept` gave the last time. DfkdError if the layers are not the teacher's."""
        self.check_layers(teacher)
        kept = kept or {}
        chains = [s.layers for index, s in enumerate(self.statistics) if s.graph and str(index) not in kept]
        bases = graph_bases(self.graph, teacher, self.layers, self.inputs, chains) if self.graph and chains else {}
        ready = [
            statistic.matchable(teacher, self.layers, bases.get(statistic.layers), kept.get(str(index)))
            for index, statistic in enumerate(self.statistics)
        ]
        return ResolvedMetadata(
            self.layers, ready, self.temperature, self.num_classes, self.inputs, self.signal, self.dropout_masks,
            self.counts,
        )  # fmt: skip

    def check_teacher(self, teacher: nn.Module) -> None:
        """Raise DfkdError unless this is the metadata of exactly these weights."""
        if weights_digest(teacher) != self.teacher_sha256:
            raise DfkdError(
                f"this metadata belongs to another teacher (weights {self.teacher_sha256[:12]}…, not "
                f"{weights_digest(teacher)[:12]}…); use the two files of one release, or collect it again"
            )

    @torch.no_grad()
    def check_layers(self, teacher: nn.Module) -> None:
        """Raise DfkdError unless the layers are the teacher's: by name, order, shape and axes, the logits last."""
        with borrowed(teacher), recording(teacher, self.layers) as recorder:
            values = recorder(self.inputs.example().to(device_of(teacher)))
        modules = dict(teacher.named_modules())
        for layer, value in zip(self.layers, values, strict=True):
            shape = tuple(value.shape[1:])
            axes = axes_of(modules.get(layer.name), shape) if layer.name else images_of(shape).axes
            if (layer.shape, layer.axes) != (shape, axes):
                raise DfkdError(
                    f"this metadata's layer {layer.name!r} has the shape {list(layer.shape)}, the teacher's has {list(shape)}; use the two "
                    "files of one release, or collect it again"
                )
        with_logits = are_logits(self.layers[-1], self.num_classes)
        hidden = recorder.sites[:-1] if with_logits else recorder.sites
        in_order = [site for site in recorder.applied if site in hidden] == hidden
        if not in_order or (with_logits and not values[-1].equal(recorder.output)):
            raise DfkdError(
                f"this metadata's layers are {', '.join(layer.name for layer in self.layers)}, which is not the order in which the teacher "
                "has them, the logits last; use the two files of one release, or collect it again"
            )

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, atomically. Format: docs/metadata-format.md."""
        file.write(Path(path), self, self.tensors())

    @classmethod
    def load(cls, path: str | Path) -> Metadata:
        """Read it back. Raises DfkdError for a file that is missing, truncated, or not what the format promises."""
        metadata = cls(**file.read(Path(path)))
        metadata.check_finite(str(path))
        return metadata

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by the names and with the types that it has in the file."""
        stored: dict[str, Tensor] = {}
        for name, tensor in self._plain().items():
            stored |= encode(name, tensor, self.storage) if tensor.is_floating_point() else {name: tensor}
        return stored

    def _plain(self) -> dict[str, Tensor]:
        """The same as numbers."""
        plain = {
            f"statistics.{index}.{name}": tensor
            for index, statistic in enumerate(self.statistics)
            for name, tensor in statistic.summary.tensors().items()
        }
        return plain | (self.graph.tensors() if self.graph else {})

    def bytes_of(self, statistic: Statistic) -> int:
        """Bytes that one of the statistics takes."""
        return self._num_bytes(statistic.summary.tensors())

    def _num_bytes(self, plain: Mapping[str, Tensor]) -> int:
        floating = [tensor for tensor in plain.values() if tensor.is_floating_point()]
        whole = sum(tensor.nbytes for tensor in plain.values() if not tensor.is_floating_point())
        return num_bytes([[*tensor.shape] for tensor in floating], self.storage) + whole

    def check_finite(self, source: str) -> None:
        """Raise DfkdError if a statistic is NaN or infinite."""
        parts = [(statistic.title(self.layers), statistic.summary.tensors()) for statistic in self.statistics]
        for title, tensors in [*parts, ("the graph", self.graph.tensors() if self.graph else {})]:
            for name, tensor in tensors.items():
                if not tensor.isfinite().all():
                    raise DfkdError(
                        f"{source}: the {name} of {title} holds NaN or infinite values; check the teacher's outputs and the images"
                    )


@dataclass(frozen=True)
class ResolvedMetadata:
    """What images are matched with: statistics in values of the recorded layers. It cannot be saved."""

    layers: list[Layer]
    statistics: list[Matchable]
    temperature: float
    num_classes: int
    inputs: InputSpec
    signal: str = "before_relu"
    dropout_masks: bool = False
    counts: list[int] | None = None

    def kept(self) -> dict[str, Tensor]:
        """What is worth keeping where bases took minutes, by the number of the statistic (`Metadata.resolved`)."""
        found = {str(index): statistic.distribution.kept() for index, statistic in enumerate(self.statistics)}
        return {index: tensor for index, tensor in found.items() if tensor is not None}

    @property
    def logits(self) -> Matchable | None:
        """The statistic that says something of the logits, if one does."""
        top = len(self.layers) - 1
        if not are_logits(self.layers[top], self.num_classes):
            return None
        return next((statistic for statistic in reversed(self.statistics) if top in statistic.layers), None)

    @property
    def mixes_classes(self) -> bool:
        """Whether some statistics are of all classes together, so that a group that is to match them must be too."""
        return not self.statistics or any(statistic.scope == "all" for statistic in self.statistics)

    def group_labels(self, group: int, size: int, turns: Tensor | None = None) -> Tensor:
        """The classes of the ``size`` images of a group: one for all, and groups take turns; or all classes in turn, where they are mixed,
        in an order of chance where there are more than images, since neighbours in a list of classes are often alike. So any run of groups
        is balanced. ``turns``: the classes in the order of their turns, where these are not equal."""
        if self.mixes_classes:
            if turns is None:
                mixed = torch.Generator().manual_seed(self.num_classes)
                fits = size >= self.num_classes
                turns = torch.arange(self.num_classes) if fits else torch.randperm(self.num_classes, generator=mixed)
            return turns[torch.arange(group * size, (group + 1) * size) % len(turns)]
        turns = torch.arange(self.num_classes) if turns is None else turns
        return turns[group % len(turns)].repeat(size)

    def activations(self, recorded: Sequence[Tensor]) -> list[Tensor]:
        """Recorded values in the form that the statistics describe: the signal, logits divided by the temperature. Shapes stay."""
        return as_signals(recorded, self.layers, self.num_classes, self.signal, self.temperature)

    def matched(self) -> list[tuple[int, Matchable, int]]:
        """What groups of images are to have: of each layer, by index, the first statistic that has it, and as which of its own; and the
        first in each basis that says something of images as wholes. In the order of the layers."""
        found: dict[tuple[int, str], tuple[Matchable, int]] = {}
        for statistic in self.statistics:
            basis = statistic.view.basis if statistic.view and not statistic.view.pools else ""
            for position, index in enumerate(statistic.layers):
                found.setdefault((index, basis), (statistic, position))
        return [(index, *found[index, basis]) for index, basis in sorted(found)]


def are_logits(layer: Layer, num_classes: int) -> bool:
    """Whether a recorded layer, the last, is the network's output; of BatchNorm layers' inputs none is."""
    return layer.side == "output" and layer.num_units == num_classes


def as_signals(
    recorded: Sequence[Tensor], layers: Sequence[Layer], num_classes: int, signal: str, temperature: float
) -> list[Tensor]:
    """What is summarised of recorded values: hidden layers before or after their ReLU, the logits divided by the temperature, and images
    as they are."""
    with_logits = are_logits(layers[-1], num_classes)
    hidden = recorded[:-1] if with_logits else recorded
    if signal == "after_relu":
        hidden = [values.relu() if layer.name else values for values, layer in zip(hidden, layers, strict=False)]
    return [*hidden, recorded[-1] / temperature] if with_logits else [*hidden]
