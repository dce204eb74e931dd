"""Metadata as one safetensors file, written and read. Format: docs/metadata-format.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dfkd_exp.errors import DfkdError
from dfkd_exp.files import write_atomically
from dfkd_exp.harmless import brief
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.bases import Graph
from dfkd_exp.metadata.forms import form
from dfkd_exp.metadata.header import FORMAT, VERSION, broken_promise, read_header
from dfkd_exp.metadata.statistic import Statistic
from dfkd_exp.metadata.storage import EXPONENTS, decode, layout
from dfkd_exp.models.layers import OUTPUT, Layer

if TYPE_CHECKING:
    from dfkd_exp.metadata.metadata import Metadata


def write(path: Path, metadata: Metadata, tensors: dict[str, Tensor]) -> None:
    """Write the file, atomically; ``tensors`` as they are stored."""
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kind": metadata.kind,
        "temperature": metadata.temperature,
        "num_classes": metadata.num_classes,
        "counts": metadata.counts,
        "inputs": metadata.inputs.to_json(),
        "teacher_sha256": metadata.teacher_sha256,
        "signal": metadata.signal,
        "storage": metadata.storage,
        "dropout_masks": metadata.dropout_masks,
        "graph": metadata.graph.to_json() if metadata.graph else None,
        "layers": [
            {"name": layer.name, "side": layer.side, "shape": list(layer.shape), "axes": list(layer.axes)}
            for layer in metadata.layers
        ],
        "statistics": [statistic.header() for statistic in metadata.statistics],
    }
    content = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    # One key only: with several, safetensors orders them differently from save to save.
    write_atomically(path, save(content, metadata={"dfkd": json.dumps(header, sort_keys=True, allow_nan=False)}))


def read(path: Path) -> dict[str, Any]:
    """What `Metadata` is made of, by name, from a file. Raises DfkdError for one that is missing, truncated, of another version or not as
    promised."""
    header, stored = _opened(path)
    try:
        layers = [_layer(entry) for entry in header["layers"]]
        graph = Graph.from_json(header["graph"], stored, len(layers)) if header["graph"] else None
        statistics = [
            _statistic(entry, f"statistics.{index}.", stored, graph) for index, entry in enumerate(header["statistics"])
        ]
        _check_header(header, layers, statistics)
        _check_tensors(header, layers, statistics, graph, stored)
        inputs = InputSpec.from_json(header["inputs"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise broken_promise(path, error) from error
    rest = ("temperature", "num_classes", "counts", "teacher_sha256", "kind", "signal", "storage", "dropout_masks")
    return {
        "layers": layers, "statistics": statistics, "inputs": inputs, **{name: header[name] for name in rest},
    }  # fmt: skip


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors, as they are stored."""
    header = read_header(path).said
    try:
        with safe_open(str(path), framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DfkdError(
            f"{path} cannot be read as metadata ({brief(str(error))}); fetch or collect it again"
        ) from error
    return header, stored


def _layer(entry: dict[str, Any]) -> Layer:
    layer = Layer(entry["name"], tuple(entry["shape"]), tuple(entry["axes"]), entry["side"])
    if len(layer.axes) != len(layer.shape):
        raise ValueError(f"layer {layer.name} of shape {entry['shape']} with the axes {entry['axes']}")
    layer.channel_axis  # noqa: B018  # raises if there is none
    return layer


def _statistic(entry: dict[str, Any], prefix: str, stored: dict[str, Tensor], graph: Graph | None) -> Statistic:
    parts: dict[str, Tensor] = {}
    for name in stored:
        if name == prefix + "indices":
            parts["indices"] = stored[name].to(torch.int32)
        elif name.startswith(prefix) and not name.endswith(EXPONENTS):
            parts[name.removeprefix(prefix)] = decode(name, stored)
    summary = form(entry["summary"]).from_file(entry, parts)
    in_graph = graph if entry["basis"] == "graph" else None
    grid = entry["grid"] if entry["basis"] in ("regions", "styles") else None
    statistic = Statistic(tuple(entry["layers"]), summary, entry["basis"], entry["scope"], in_graph, grid)
    if entry != statistic.header():
        raise ValueError(f"a statistic of layers {entry['layers']} with other fields than {sorted(statistic.header())}")
    return statistic


def _check_header(header: dict[str, Any], layers: Sequence[Layer], statistics: Sequence[Statistic]) -> None:
    """Raise ValueError for what no reader could use, beyond what the schema says of each field."""
    classes = header["num_classes"]
    if layers[-1].side == "output" and layers[-1].num_units != classes:
        raise ValueError(f"the last layer is not the logits of {classes} classes")
    if any(layer.name == OUTPUT for layer in layers[:-1]) or (layers[-1].name, layers[-1].side) == (OUTPUT, "input"):
        raise ValueError(
            f"a layer called {OUTPUT!r}, which is the network's own output, that is not the last one's output"
        )
    covered = {index for statistic in statistics for index in statistic.layers}
    if covered != set(range(len(layers))) and (statistics or len(layers) > 1):  # without any, the logits stand alone
        raise ValueError("the statistics do not cover the layers")
    if statistics and statistics[-1].layers[-1] != len(layers) - 1:
        raise ValueError("the last statistic does not end with the last layer")
    if (header["graph"] is not None) != any(statistic.basis == "graph" for statistic in statistics):
        raise ValueError("a graph without a statistic in its basis, or a statistic without its graph")
    for statistic in statistics:
        own = [layers[index] for index in statistic.layers]
        if statistic.layers != tuple(range(statistic.layers[0], statistic.layers[-1] + 1)):
            raise ValueError(f"a statistic of layers {list(statistic.layers)}, which are not consecutive")
        if statistic.basis == "graph" and (statistic.graph is None or len(own) < 2):
            raise ValueError(f"a statistic of {len(own)} layers in basis 'graph', or without its graph")
        if statistic.basis in ("channels", "regions", "spectrum", "styles") and len(own) > 1:
            raise ValueError(f"a statistic of the {statistic.basis} of {len(own)} layers")
        _num_coefficients(statistic, layers)
        statistic.summary.check(own)


def _check_tensors(
    header: dict[str, Any],
    layers: Sequence[Layer],
    statistics: Sequence[Statistic],
    graph: Graph | None,
    stored: dict[str, Tensor],
) -> None:
    """Raise ValueError unless the tensors are those that the header asks for, with their types, shapes and ranges."""
    expected: dict[str, tuple[torch.dtype, list[int]]] = {}
    titles: dict[str, str] = {}
    for index, statistic in enumerate(statistics):
        rows = statistic.num_rows(header["num_classes"])
        for name, shape in statistic.summary.shapes(rows, _num_coefficients(statistic, layers)).items():
            full_name = f"statistics.{index}.{name}"
            titles[full_name] = f"the {name} of {statistic.title(layers)}"
            expected |= layout(full_name, statistic.summary.tensors()[name].dtype, shape, header["storage"])
    for index, mean in enumerate(graph.means if graph else []):
        shape = [header["num_classes"], layers[index].num_units]
        expected |= layout(f"graph.{index}.mean", mean.dtype, shape, header["storage"])
    if spare := stored.keys() - expected.keys():
        raise ValueError(f"unknown tensor {min(spare)}")
    for name, (dtype, shape) in expected.items():
        title, tensor = titles.get(name, name), stored[name]
        if (tensor.dtype, list(tensor.shape)) != (dtype, shape):
            raise ValueError(f"{title} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {shape}")
        if name.endswith(".variance") and (tensor < 0).any():
            raise ValueError(f"{title} is negative somewhere")
        if tensor.dtype is torch.int8 and (tensor == -128).any():
            raise ValueError(f"{title} holds -128, and whole numbers are from -127 to 127")


def _num_coefficients(statistic: Statistic, layers: Sequence[Layer]) -> int:
    """As many as the statistic must have."""
    found, title = statistic.summary.num_coefficients, statistic.title(layers)
    view = statistic.view(layers)
    values = view.num_values if view else sum(layers[index].num_units for index in statistic.layers)
    if statistic.graph and statistic.graph.rank is not None:
        if found > 2 * statistic.graph.rank:
            raise ValueError(f"{found} coefficients of {title} at a rank of {statistic.graph.rank}")
        return found
    if found != values:
        noun = {"channels": "channels", "regions": "regions", "spectrum": "frequencies", "styles": "styles"}.get(
            statistic.basis, "units"
        )
        raise ValueError(f"{found} coefficients of {title}, which have {values} {noun}")
    return values
