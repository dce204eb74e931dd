"""Metadata: what is kept of a teacher's activations, and what is drawn from it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.bases import Basis, Graph, InBasis, graph_bases
from dfkd_exp.metadata.covariance import LayerGaussian
from dfkd_exp.metadata.directions import whitening
from dfkd_exp.metadata.records import Records, Signals
from dfkd_exp.metadata.separable import Separable
from dfkd_exp.metadata.storage import encode
from dfkd_exp.models.recording import Layer, weights_digest

Summary = LayerGaussian | Separable | Records | Signals | InBasis


@dataclass(frozen=True)
class Block:
    """What is kept of the units of some ``layers``, by index, one after the other: ``summary``, of the units' activations as they are
    (``basis="units"``) or of their graph Fourier coefficients (``"graph"``)."""

    layers: tuple[int, ...]
    basis: str
    summary: Summary


@dataclass
class Metadata:
    """Per class, a summary of the activations of the recorded layers; the logits, last, are divided by ``temperature``.

    ``counts``: images per class that it was collected from. ``teacher_sha256``: the weights that it belongs to. ``signal``:
    before_relu or after_relu, but for the logits. ``storage``: the numbers' type in the file, to which they have been rounded.
    ``dropout_masks``: the teacher is to be masked while images are made. ``graph``: where a block is in a graph's basis.
    """

    layers: list[Layer]
    blocks: list[Block]
    temperature: float
    counts: list[int]
    inputs: InputSpec
    teacher_sha256: str
    kind: dict[str, Any]
    signal: str = "before_relu"
    storage: str = "fp32"
    dropout_masks: bool = False
    graph: Graph | None = None

    @property
    def layer_names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    @property
    def num_classes(self) -> int:
        return len(self.counts)

    @property
    def statistics(self) -> list[Any]:
        """The blocks' summaries."""
        return [block.summary for block in self.blocks]

    @property
    def has_records(self) -> bool:
        """Whether it holds single images' activations, and not Gaussians."""
        return any(isinstance(block.summary, Records | Signals) for block in self.blocks)

    @property
    def device(self) -> torch.device:
        return next(iter(self.blocks[-1].summary.tensors().values())).device

    @property
    def num_bytes(self) -> int:
        """Bytes of the statistics themselves; the file's header of a few hundred more is not counted."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    def units_of(self, block: Block) -> int:
        return sum(self.layers[index].num_units for index in block.layers)

    def to(self, device: torch.device | str) -> Metadata:
        """The same with its statistics on another device."""
        moved = [replace(block, summary=_moved(block.summary, device)) for block in self.blocks]
        return replace(self, blocks=moved)

    def activations(self, recorded: list[Tensor]) -> list[Tensor]:
        """Recorded outputs in the form that the statistics describe: the signal, logits divided by the temperature. Shapes stay."""
        return as_signals(recorded, self.signal, self.temperature)

    def in_units(self, teacher: nn.Module) -> Metadata:
        """The same with every summary one of units' activations, from which targets can be drawn; bases follow from the teacher."""
        blocks = [block for block in self.blocks if block.basis == "graph"]
        bases = graph_bases(self.graph, teacher, self.layers, self.inputs, [b.layers for b in blocks]) if blocks else {}
        resolved = [replace(b, basis="units", summary=_in_units(b.summary, bases.get(b.layers))) for b in self.blocks]
        return replace(self, blocks=resolved, graph=None)

    def targets(self, label: int, count: int, generator: torch.Generator) -> list[Tensor]:
        """An independent draw per block for each of ``count`` images of one class: ``[count, U]`` each."""
        return [block.summary.sample(label, count, generator) for block in self.blocks]  # type: ignore[union-attr]

    def layer_moments(self) -> list[tuple[Tensor, Tensor]]:
        """Means and standard deviations of every layer, ``[K, U]`` each; of the first block that has it, where several have."""
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for block in self.blocks:
            sizes = [self.layers[index].num_units for index in block.layers]
            means, deviations = block.summary.mean.split(sizes, 1), block.summary.std().split(sizes, 1)  # type: ignore[union-attr]
            for index, mean, deviation in zip(block.layers, means, deviations, strict=True):
                found.setdefault(index, (mean, deviation))
        return [found[index] for index in range(len(self.layers))]

    def layer_whitening(self, count: int) -> list[Tensor]:
        """Per layer ``[K, D, U]``: the ``count`` directions in which each class varies most (`whitening`); computed once.

        D is 0 where the statistics know of no covariances within the layer.
        """
        if count not in self._whitening:
            found: dict[int, Tensor] = {}
            for block in self.blocks:
                ends = list(itertools.accumulate((self.layers[index].num_units for index in block.layers), initial=0))
                for index, units in zip(block.layers, itertools.starmap(slice, itertools.pairwise(ends)), strict=True):
                    if index not in found:
                        found[index] = whitening(block.summary, units, count).to(self.device)
            self._whitening[count] = [found[index] for index in range(len(self.layers))]
        return self._whitening[count]

    @cached_property
    def _whitening(self) -> dict[int, list[Tensor]]:
        return {}

    def draw_logits(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """Draws of the logits of one class, ``[count, K]``, divided by the temperature."""
        return self.blocks[-1].summary.sample(label, count, generator)[:, -self.num_classes :]  # type: ignore[union-attr]

    def check_teacher(self, teacher: nn.Module) -> None:
        """Raise DfkdError unless this is the metadata of exactly these weights."""
        if weights_digest(teacher) != self.teacher_sha256:
            raise DfkdError(
                f"this metadata belongs to another teacher (weights {self.teacher_sha256[:12]}…, not "
                f"{weights_digest(teacher)[:12]}…); use the two files of one release, or collect it again"
            )

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, atomically. Format: docs/metadata-format.md."""
        from dfkd_exp.metadata.file import write

        write(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Metadata:
        """Read it back. Raises DfkdError for a file that is missing, truncated, or not what the format promises."""
        from dfkd_exp.metadata.file import read

        return read(Path(path))

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by the names and with the types that it has in the file."""
        plain = {
            f"blocks.{index}.{name}": tensor
            for index, block in enumerate(self.blocks)
            for name, tensor in block.summary.tensors().items()
        }
        if self.graph:
            plain |= self.graph.tensors()
        stored: dict[str, Tensor] = {}
        for name, tensor in plain.items():
            stored |= encode(name, tensor, self.storage) if tensor.is_floating_point() else {name: tensor}
        return stored

    def check_finite(self, source: str) -> None:
        """Raise DfkdError if a statistic is NaN or infinite."""
        parts = [(self.title(block), block.summary.tensors()) for block in self.blocks]
        for title, tensors in [*parts, ("the graph", self.graph.tensors() if self.graph else {})]:
            for name, tensor in tensors.items():
                if not tensor.isfinite().all():
                    raise DfkdError(
                        f"{source}: the {name} of {title} holds NaN or infinite values; check the teacher's outputs and the images"
                    )

    def title(self, block: Block) -> str:
        """A block's layers, for people."""
        names = [self.layers[index].name for index in block.layers]
        return f"layer {names[0]}" if len(names) == 1 else f"layers {names[0]} to {names[-1]}"


def as_signals(recorded: list[Tensor], signal: str, temperature: float) -> list[Tensor]:
    """What is summarised of recorded outputs: hidden layers before or after their ReLU, the logits divided by the temperature."""
    hidden = [output.relu() for output in recorded[:-1]] if signal == "after_relu" else recorded[:-1]
    return [*hidden, recorded[-1] / temperature]


def _moved(summary: Summary, device: torch.device | str) -> Summary:
    if isinstance(summary, InBasis):  # its draws are made on the CPU
        return replace(summary, mean=summary.mean.to(device), deviation=summary.deviation.to(device))
    if isinstance(summary, Records):
        return Records(summary.values.to(device), summary.indices.to(device), summary.num_coefficients)
    return type(summary)(**{name: tensor.to(device) for name, tensor in summary.tensors().items()})


def _in_units(summary: Summary, basis: Basis | None) -> Summary:
    if isinstance(summary, Records):
        dense = summary.dense()
        return Signals(dense if basis is None else basis.inverse(dense.flatten(0, 1)).view(*dense.shape[:2], -1))
    return summary if basis is None else InBasis.of(summary, basis)
