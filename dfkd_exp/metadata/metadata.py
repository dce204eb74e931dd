"""Metadata: what is kept of a teacher's activations, what is drawn from it, and how it is written to and read from safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.bases import Basis, Graph, InBasis, graph_bases
from dfkd_exp.metadata.covariance import FORMS, LayerGaussian
from dfkd_exp.metadata.records import Records, Signals
from dfkd_exp.metadata.separable import Separable
from dfkd_exp.metadata.storage import DTYPES, SCALE, decode, encode
from dfkd_exp.models.recording import Layer, weights_digest
from dfkd_exp.store import write_atomically

FORMAT, VERSION = "dfkd-metadata", 2

Summary = LayerGaussian | Separable | Records | Signals | InBasis
STORED: dict[str, Any] = {**FORMS, Separable.form: Separable, Records.form: Records}


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
    _bases: dict[tuple[int, ...], Basis] = field(default_factory=dict, repr=False, compare=False)

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
        hidden = [output.relu() for output in recorded[:-1]] if self.signal == "after_relu" else recorded[:-1]
        return [*hidden, recorded[-1] / self.temperature]

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
        header = {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "temperature": self.temperature,
            "counts": self.counts,
            "inputs": self.inputs.to_json(),
            "teacher_sha256": self.teacher_sha256,
            "signal": self.signal,
            "storage": self.storage,
            "dropout_masks": self.dropout_masks,
            "graph": self.graph.to_json() if self.graph else None,
            "layers": [{"name": layer.name, "shape": list(layer.shape)} for layer in self.layers],
            "blocks": [_block_header(block) for block in self.blocks],
        }
        tensors = {name: tensor.contiguous().cpu() for name, tensor in self.tensors().items()}
        # One key only: with several, safetensors orders them differently from save to save.
        write_atomically(
            Path(path), save(tensors, metadata={"dfkd": json.dumps(header, sort_keys=True, allow_nan=False)})
        )

    @classmethod
    def load(cls, path: str | Path) -> Metadata:
        """Read it back. Raises DfkdError for a file that is missing, truncated, of another format or version, or not finite."""
        try:
            with safe_open(str(path), framework="pt") as file:
                text = (file.metadata() or {}).get("dfkd")
                header = json.loads(text) if text else {}
                header = header if isinstance(header, dict) else {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            raise DfkdError(f"{path} cannot be read as metadata ({error}); fetch or collect it again") from error
        if header.get("format") != FORMAT:
            raise DfkdError(f"{path} is not a {FORMAT} file")
        if header.get("version") != VERSION:
            raise DfkdError(
                f"{path} has schema version {header.get('version')}, this program reads {VERSION}; update dfkd_exp"
            )
        try:
            metadata = cls(
                [Layer(entry["name"], tuple(entry["shape"])) for entry in header["layers"]],
                [_read_block(entry, index, tensors) for index, entry in enumerate(header["blocks"])],
                header["temperature"], header["counts"], InputSpec.from_json(header["inputs"]), header["teacher_sha256"],
                header["kind"], header["signal"], header["storage"], header["dropout_masks"],
                Graph.from_json(header["graph"], tensors) if header["graph"] else None,
            )  # fmt: skip
            metadata.check_blocks()
            if spare := tensors.keys() - metadata.tensors().keys():
                raise KeyError(f"unknown tensor {min(spare)}")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise DfkdError(
                f"{path} does not hold what {FORMAT} version {VERSION} promises ({error}); fetch it again"
            ) from error
        metadata.check_shapes(str(path), tensors)
        metadata.check_finite(str(path))
        return metadata

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

    def check_blocks(self) -> None:
        """Raise ValueError for a header that no reader could use."""
        known = range(len(self.layers))
        if self.storage not in DTYPES or self.signal not in ("before_relu", "after_relu"):
            raise ValueError(f"unknown storage {self.storage!r} or signal {self.signal!r}")
        if {index for block in self.blocks for index in block.layers} != set(known):
            raise ValueError("the blocks do not cover the layers")
        if any(block.basis not in ("units", "graph") for block in self.blocks):
            raise ValueError("unknown basis")
        if any(block.basis == "graph" and (not self.graph or len(block.layers) < 2) for block in self.blocks):
            raise ValueError("a block in the basis of a graph that is not described")
        if self.blocks[-1].layers[-1] != known[-1]:
            raise ValueError("the last block does not end with the logits")

    def check_shapes(self, source: str, stored: dict[str, Tensor]) -> None:
        """Raise DfkdError if a tensor has not the type and shape that header and classes ask for, or a variance is negative."""
        if self.layers[-1].num_units != self.num_classes:
            raise DfkdError(f"{source}: the last layer is not the logits of {self.num_classes} classes; fetch it again")
        for index, block in enumerate(self.blocks):
            units = self.units_of(block) if block.basis == "units" else _num_coefficients(block.summary)
            if (
                isinstance(block.summary, Records)
                and not 0 <= block.summary.indices.min() <= block.summary.indices.max() < units
            ):
                raise DfkdError(
                    f"{source}: an index of block {index} is beyond its {units} coefficients; fetch it again"
                )
            for name, shape in block.summary.shapes(self.num_classes, units).items():  # type: ignore[union-attr]
                tensor = stored[f"blocks.{index}.{name}"]
                dtype = DTYPES[self.storage] if name != "indices" else tensor.dtype
                if tensor.dtype != dtype or list(tensor.shape) != shape:
                    raise DfkdError(
                        f"{source}: the {name} of {self._title(block)} is {tensor.dtype} {list(tensor.shape)}, not "
                        f"{dtype} {shape}; fetch it again"
                    )
                if name == "variance" and (tensor < 0).any():
                    raise DfkdError(f"{source}: a variance of {self._title(block)} is negative; fetch it again")

    def check_finite(self, source: str) -> None:
        """Raise DfkdError if a statistic is NaN or infinite."""
        for block in self.blocks:
            for name, tensor in block.summary.tensors().items():
                if not tensor.isfinite().all():
                    raise DfkdError(
                        f"{source}: the {name} of {self._title(block)} holds NaN or infinite values; "
                        "check the teacher's outputs and the images"
                    )

    def _title(self, block: Block) -> str:
        names = [self.layers[index].name for index in block.layers]
        return f"layer {names[0]}" if len(names) == 1 else f"layers {names[0]} to {names[-1]}"


def _num_coefficients(summary: Any) -> int:
    return summary.num_coefficients if isinstance(summary, Records) else summary.mean.shape[1]


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


def _block_header(block: Block) -> dict[str, Any]:
    header: dict[str, Any] = {"layers": list(block.layers), "basis": block.basis, "summary": block.summary.form}
    if isinstance(block.summary, Records):
        header["num_coefficients"] = block.summary.num_coefficients
    return header


def _read_block(entry: dict[str, Any], index: int, tensors: dict[str, Tensor]) -> Block:
    prefix = f"blocks.{index}."
    stored = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    parts: dict[str, Any] = {
        name.removeprefix(prefix): decode(name, stored) if name != f"{prefix}indices" else stored[name].to(torch.int32)
        for name in stored
        if not name.endswith(SCALE)
    }
    if entry["summary"] == Records.form:
        parts["num_coefficients"] = entry["num_coefficients"]
    return Block(tuple(entry["layers"]), entry["basis"], STORED[entry["summary"]](**parts))
