"""Metadata as one safetensors file, written and read. Format: docs/metadata-format.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.bases import Graph
from dfkd_exp.metadata.covariance import FORMS
from dfkd_exp.metadata.metadata import Block, Metadata
from dfkd_exp.metadata.records import Records
from dfkd_exp.metadata.separable import Separable
from dfkd_exp.metadata.settings import SIGNALS, STORAGES
from dfkd_exp.metadata.storage import SCALE, decode, layout
from dfkd_exp.models.recording import Layer
from dfkd_exp.store import write_atomically

FORMAT, VERSION = "dfkd-metadata", 2

SUMMARIES: dict[str, Any] = {**FORMS, Separable.form: Separable, Records.form: Records}


def write(metadata: Metadata, path: Path) -> None:
    """Write the file, atomically."""
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kind": metadata.kind,
        "temperature": metadata.temperature,
        "counts": metadata.counts,
        "inputs": metadata.inputs.to_json(),
        "teacher_sha256": metadata.teacher_sha256,
        "signal": metadata.signal,
        "storage": metadata.storage,
        "dropout_masks": metadata.dropout_masks,
        "graph": metadata.graph.to_json() if metadata.graph else None,
        "layers": [{"name": layer.name, "shape": list(layer.shape)} for layer in metadata.layers],
        "blocks": [_block_header(block) for block in metadata.blocks],
    }
    tensors = {name: tensor.contiguous().cpu() for name, tensor in metadata.tensors().items()}
    # One key only: with several, safetensors orders them differently from save to save.
    write_atomically(path, save(tensors, metadata={"dfkd": json.dumps(header, sort_keys=True, allow_nan=False)}))


def read(path: Path) -> Metadata:
    """The metadata in a file. Raises DfkdError for one that is missing, truncated, of another version or not as promised."""
    header, stored = _opened(path)
    try:
        metadata = _decoded(header, stored)
        _check_header(metadata)
        _check_tensors(metadata, stored)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise DfkdError(
            f"{path} does not hold what {FORMAT} version {VERSION} promises ({error}); fetch it again"
        ) from error
    metadata.check_finite(str(path))
    return metadata


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors, as they are stored."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("dfkd", "{}"))
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise DfkdError(f"{path} cannot be read as metadata ({error}); fetch or collect it again") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DfkdError(f"{path} is not a {FORMAT} file")
    if header.get("version") != VERSION:
        raise DfkdError(
            f"{path} has schema version {header.get('version')}, this program reads {VERSION}; update dfkd_exp"
        )
    return header, stored


def _decoded(header: dict[str, Any], stored: dict[str, Tensor]) -> Metadata:
    layers = [Layer(entry["name"], tuple(entry["shape"])) for entry in header["layers"]]
    return Metadata(
        layers=layers,
        blocks=[_decoded_block(entry, f"blocks.{index}.", stored) for index, entry in enumerate(header["blocks"])],
        temperature=header["temperature"],
        counts=header["counts"],
        inputs=InputSpec.from_json(header["inputs"]),
        teacher_sha256=header["teacher_sha256"],
        kind=header["kind"],
        signal=header["signal"],
        storage=header["storage"],
        dropout_masks=header["dropout_masks"],
        graph=Graph.from_json(header["graph"], stored, len(layers)) if header["graph"] else None,
    )


def _block_header(block: Block) -> dict[str, Any]:
    header: dict[str, Any] = {"layers": list(block.layers), "basis": block.basis, "summary": block.summary.form}
    if isinstance(block.summary, Records):
        header["num_coefficients"] = block.summary.num_coefficients
    return header


def _decoded_block(entry: dict[str, Any], prefix: str, stored: dict[str, Tensor]) -> Block:
    parts: dict[str, Any] = {}
    for name in stored:
        if name == prefix + "indices":
            parts["indices"] = stored[name].to(torch.int32)
        elif name.startswith(prefix) and not name.endswith(SCALE):
            parts[name.removeprefix(prefix)] = decode(name, stored)
    if entry["summary"] == Records.form:
        parts["num_coefficients"] = entry["num_coefficients"]
    return Block(tuple(entry["layers"]), entry["basis"], SUMMARIES[entry["summary"]](**parts))


def _check_header(metadata: Metadata) -> None:
    """Raise ValueError for what no reader could use."""
    layers, blocks = metadata.layers, metadata.blocks
    if metadata.storage not in STORAGES or metadata.signal not in SIGNALS:
        raise ValueError(f"unknown storage {metadata.storage!r} or signal {metadata.signal!r}")
    if not metadata.temperature > 0 or not all(isinstance(count, int) and count > 0 for count in metadata.counts):
        raise ValueError(f"a temperature of {metadata.temperature} or class counts that are not positive")
    if not isinstance(metadata.dropout_masks, bool):
        raise ValueError(f"dropout_masks of {metadata.dropout_masks!r}")
    if layers[-1].num_units != metadata.num_classes:
        raise ValueError(f"the last layer is not the logits of {metadata.num_classes} classes")
    if {index for block in blocks for index in block.layers} != set(range(len(layers))):
        raise ValueError("the blocks do not cover the layers")
    if blocks[-1].layers[-1] != len(layers) - 1:
        raise ValueError("the last block does not end with the logits")
    if any(block.basis == "graph" for block in blocks) != (metadata.graph is not None):
        raise ValueError("a graph without a block in its basis, or a block without its graph")
    for block in blocks:
        if block.layers != tuple(range(block.layers[0], block.layers[-1] + 1)):
            raise ValueError(f"a block of layers {list(block.layers)}, which are not consecutive")
        if block.basis not in ("units", "graph") or (block.basis == "graph" and len(block.layers) < 2):
            raise ValueError(f"a block of {len(block.layers)} layers in basis {block.basis!r}")
        if isinstance(block.summary, Separable):
            shape = layers[block.layers[0]].shape
            if block.basis == "graph" or len(block.layers) > 1 or len(shape) != 3:
                raise ValueError(f"a separable covariance of {metadata.title(block)}, which is not one layer of maps")
            if block.summary.num_channels != shape[0]:
                raise ValueError(
                    f"{block.summary.num_channels} channels of {metadata.title(block)}, which has {shape[0]}"
                )


def _check_tensors(metadata: Metadata, stored: dict[str, Tensor]) -> None:
    """Raise ValueError unless the tensors are those that the header asks for, with their types, shapes and ranges."""
    expected: dict[str, tuple[torch.dtype, list[int]]] = {}
    titles: dict[str, str] = {}
    for index, block in enumerate(metadata.blocks):
        shapes = block.summary.shapes(metadata.num_classes, _num_coefficients(metadata, block))  # type: ignore[union-attr]
        for name, shape in shapes.items():
            full_name = f"blocks.{index}.{name}"
            titles[full_name] = f"the {name} of {metadata.title(block)}"
            dtype = block.summary.tensors()[name].dtype
            expected |= layout(full_name, dtype, shape, metadata.storage)
    for index, mean in enumerate(metadata.graph.means if metadata.graph else []):
        shape = [metadata.num_classes, metadata.layers[index].num_units]
        expected |= layout(f"graph.{index}.mean", mean.dtype, shape, metadata.storage)
    if spare := stored.keys() - expected.keys():
        raise ValueError(f"unknown tensor {min(spare)}")
    for name, (dtype, shape) in expected.items():
        title, tensor = titles.get(name, name), stored[name]
        if (tensor.dtype, list(tensor.shape)) != (dtype, shape):
            raise ValueError(f"{title} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {shape}")
        if name.endswith((".variance", SCALE)) and (tensor < 0).any():
            raise ValueError(f"{title} is negative somewhere")
    for block in metadata.blocks:
        if isinstance(block.summary, Records):
            block.summary.check()


def _num_coefficients(metadata: Metadata, block: Block) -> int:
    """As many as the block must have."""
    summary, units = block.summary, metadata.units_of(block)
    own = summary.num_coefficients if isinstance(summary, Records) else None
    if block.basis == "graph" and metadata.graph and metadata.graph.rank is not None:
        found = summary.mean.shape[1] if own is None else own  # type: ignore[union-attr]
        if found > 2 * metadata.graph.rank:
            raise ValueError(f"{found} coefficients of {metadata.title(block)} at a rank of {metadata.graph.rank}")
        return found
    if own not in (None, units):
        raise ValueError(f"{own} coefficients of {metadata.title(block)}, which have {units} units")
    return units
