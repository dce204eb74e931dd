"""Gaussian metadata: what it holds, what it draws, and how it is written to and read from safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.covariance import FORMS, LayerGaussian
from dfkd_exp.models.recording import Layer, weights_digest
from dfkd_exp.store import write_atomically

FORMAT, VERSION = "dfkd-metadata", 1


@dataclass
class GaussianMetadata:
    """Per class and recorded layer, a Gaussian of the activations; the logits, last, are divided by ``temperature``.

    ``counts``: images per class that it was collected from. ``teacher_sha256``: the weights that it belongs to.
    """

    layers: list[Layer]
    statistics: list[LayerGaussian]
    temperature: float
    counts: list[int]
    inputs: InputSpec
    teacher_sha256: str
    kind: dict[str, Any]

    @property
    def layer_names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    @property
    def num_classes(self) -> int:
        return len(self.counts)

    @property
    def num_bytes(self) -> int:
        """Bytes of the statistics themselves; the file's header of a few hundred more is not counted."""
        return sum(t.numel() * t.element_size() for s in self.statistics for t in s.tensors().values())

    def to(self, device: torch.device | str) -> GaussianMetadata:
        """The same with its statistics on another device."""
        moved = [type(s)(**{name: t.to(device) for name, t in s.tensors().items()}) for s in self.statistics]
        return GaussianMetadata(
            self.layers, moved, self.temperature, self.counts, self.inputs, self.teacher_sha256, self.kind
        )

    def activations(self, recorded: list[Tensor]) -> list[Tensor]:
        """Recorded outputs in the form that the statistics describe: ``[N, U]`` each, logits divided by the temperature."""
        flat = [output.flatten(1) for output in recorded]
        return [*flat[:-1], flat[-1] / self.temperature]

    def targets(self, label: int, count: int, generator: torch.Generator) -> list[Tensor]:
        """An independent draw per layer for each of ``count`` images of one class: ``[count, U]`` each."""
        return [statistics.sample(label, count, generator) for statistics in self.statistics]

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
            "layers": [
                {"name": layer.name, "shape": list(layer.shape), "covariance": statistics.form}
                for layer, statistics in zip(self.layers, self.statistics, strict=True)
            ],
        }
        tensors = {name: tensor.contiguous().cpu() for name, tensor in self.tensors().items()}
        # One key only: with several, safetensors orders them differently from save to save.
        write_atomically(
            Path(path), save(tensors, metadata={"dfkd": json.dumps(header, sort_keys=True, allow_nan=False)})
        )

    @classmethod
    def load(cls, path: str | Path) -> GaussianMetadata:
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
            layers = [Layer(entry["name"], tuple(entry["shape"])) for entry in header["layers"]]
            statistics: list[LayerGaussian] = []
            for index, entry in enumerate(header["layers"]):
                prefix = f"layers.{index}."
                parts = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                statistics.append(FORMS[entry["covariance"]](**parts))
            metadata = cls(
                layers, statistics, header["temperature"], header["counts"], InputSpec.from_json(header["inputs"]),
                header["teacher_sha256"], header["kind"],
            )  # fmt: skip
            if spare := tensors.keys() - metadata.tensors().keys():
                raise KeyError(f"unknown tensor {min(spare)}")
        except (KeyError, TypeError, ValueError) as error:
            raise DfkdError(
                f"{path} does not hold what {FORMAT} version {VERSION} promises ({error}); fetch it again"
            ) from error
        metadata.check_shapes(str(path))
        metadata.check_finite(str(path))
        return metadata

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by the names that it has in the file."""
        return {
            f"layers.{index}.{name}": tensor
            for index, statistics in enumerate(self.statistics)
            for name, tensor in statistics.tensors().items()
        }

    def check_shapes(self, source: str) -> None:
        """Raise DfkdError if a statistic is not float32 of the shape that layers and classes ask for, or a variance negative."""
        if self.layers[-1].num_units != self.num_classes:
            raise DfkdError(f"{source}: the last layer is not the logits of {self.num_classes} classes; fetch it again")
        for layer, statistics in zip(self.layers, self.statistics, strict=True):
            classes, units = self.num_classes, layer.num_units
            for name, tensor in statistics.tensors().items():
                shape = {
                    "covariance": [classes, units * (units + 1) // 2],
                    "factor": [classes, units, tensor.shape[-1]],
                }.get(name, [classes, units])
                if tensor.dtype != torch.float32 or list(tensor.shape) != shape:
                    raise DfkdError(
                        f"{source}: the {name} of layer {layer.name} is {tensor.dtype} {list(tensor.shape)}, not "
                        f"torch.float32 {shape}; fetch it again"
                    )
                if name == "variance" and (tensor < 0).any():
                    raise DfkdError(f"{source}: a variance of layer {layer.name} is negative; fetch it again")

    def check_finite(self, source: str) -> None:
        """Raise DfkdError if a statistic is NaN or infinite."""
        for layer, statistics in zip(self.layers, self.statistics, strict=True):
            for name, tensor in statistics.tensors().items():
                if not tensor.isfinite().all():
                    raise DfkdError(
                        f"{source}: the {name} of layer {layer.name} holds NaN or infinite values; "
                        "check the teacher's outputs and the images"
                    )
