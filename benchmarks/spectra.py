"""Seconds and peak memory of graph Fourier bases, each in a process of its own, against eigenvectors of the whole adjacency."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from benchmarks.measure import seconds
from dfkd_exp.evaluation.cost import peak_memory
from dfkd_exp.metadata.fourier import GraphFourier
from dfkd_exp.metadata.graph import Block, weight_blocks
from dfkd_exp.models.networks import HintonNet, LeNet5, Mlp
from dfkd_exp.models.recording import find_layers

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "HintonNet": (HintonNet, (1, 28, 28)),
    "LeNet-5": (LeNet5, (1, 32, 32)),
    "9216-4096-4096-2": (lambda: Mlp((256, 6, 6), 2, (4096, 4096)), (256, 6, 6)),
}
CASES = [
    ("HintonNet", "pairs"), ("HintonNet", "all layers"), ("LeNet-5", "pairs"), ("LeNet-5", "all layers"),
    ("9216-4096-4096-2", "all layers"),
]  # fmt: skip
REFERENCE = ("HintonNet", "adjacency")
"""Its 2,410 units are few enough for the whole matrix."""


def adjacency(blocks: list[Block]) -> Tensor:
    """The matrix ``A[U, U]`` that the basis diagonalises and never forms."""
    sizes = [blocks[0].num_inputs, *(block.num_outputs for block in blocks)]
    whole = torch.zeros(sum(sizes), sum(sizes), dtype=torch.float64)
    cells = [row.split(sizes, 1) for row in whole.split(sizes)]
    for index, block in enumerate(blocks):
        cells[index + 1][index].copy_(block.matrix())
        cells[index][index + 1].copy_(block.matrix().T)
    return whole


def measure(name: str, kind: str) -> dict[str, Any]:
    """Here and now, random weights: units of each graph, seconds, and bytes beyond those in use before."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = build()
    layers = find_layers(network, torch.zeros(2, *shape))
    sizes = [layer.num_units for layer in layers]
    works: dict[str, Callable[[list[Block]], object]] = {
        "pairs": lambda blocks: [GraphFourier([block]) for block in blocks],
        "all layers": GraphFourier,
        "adjacency": lambda blocks: torch.linalg.eigh(adjacency(blocks)),
    }
    with peak_memory(torch.device("cpu")) as before:
        pass
    with peak_memory(torch.device("cpu")) as peak:
        taken = seconds(lambda: works[kind](weight_blocks(network, layers, shape)))
    units = [one + two for one, two in itertools.pairwise(sizes)] if kind == "pairs" else [sum(sizes)]
    return {"units": units, "seconds": taken, "num_bytes": peak.num_bytes - before.num_bytes}


def tables() -> Iterator[Table]:
    """The reference's seconds grow with the cube of the units, and its bytes with their square."""
    table = Table("graph", "units", "seconds", "eigh of the adjacency, s", "ratio", "peak memory, MB", "eigh's, MB")
    reference = _apart(*REFERENCE)
    for name, kind in CASES:
        ours = _apart(name, kind)
        times = [units / reference["units"][0] for units in ours["units"]]
        expected = reference["seconds"] * sum(x**3 for x in times)
        num_bytes = reference["num_bytes"] * max(x**2 for x in times)
        scaled = "" if times == [1] else " (scaled)"
        table.add_row(
            f"{name}, {kind}", " + ".join(f"{units:,}" for units in ours["units"]), f"{ours['seconds']:.1f}",
            f"{expected:,.1f}{scaled}", f"{expected / ours['seconds']:.1f}x", f"{ours['num_bytes'] / 1e6:,.0f}",
            f"{num_bytes / 1e6:,.0f}{scaled}",
        )  # fmt: skip
    yield table


def _apart(name: str, kind: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.spectra", name, kind]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
