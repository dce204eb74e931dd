"""``python -m benchmarks.memory IMAGES``: distil so many reconstructions that lie in files; seconds and peak memory as JSON.

And, as a part of the benchmarks, of few and of 10 GB of them, each in a process of its own."""

from __future__ import annotations

import json
import math
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.table import Table
from torch import nn

from benchmarks import children
from benchmarks.measure import seconds
from dfkd_exp import InputSpec
from dfkd_exp.data.rows import Rows
from dfkd_exp.distillation.distill import train_on_teacher
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.evaluation.cost import peak_memory
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.augmentation import NoAugmentation
from dfkd_exp.training.transfer_set import FixedImages

SHAPE, CLASSES = (3, 64, 64), 10
BYTES_PER_IMAGE = 2 * math.prod(SHAPE)
PER_FILE = 1_000
NUM_BYTES = (10**7, 10**10)


def sparse_shard(path: Path, images: int) -> None:
    """A file of black ``images`` that takes no room on the disk."""
    entry = {"dtype": "F16", "shape": [images, *SHAPE], "data_offsets": [0, images * BYTES_PER_IMAGE]}
    header = json.dumps({"pixels": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with path.open("r+b") as file:
        file.truncate(8 + len(header) + images * BYTES_PER_IMAGE)


def distilled(images: int) -> dict[str, float]:
    """One epoch of a linear student on a linear teacher's answers, on the CPU; without augmentation, so that images are read twice."""
    teacher, student = (nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), CLASSES)) for _ in range(2))
    settings, trainer = Distillation(epochs=1, augmentation=NoAugmentation()), TrainerSettings(accelerator="cpu")
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for first in range(0, images, PER_FILE):
            paths.append(Path(folder, f"{first:08d}.safetensors"))
            sparse_shard(paths[-1], min(PER_FILE, images - first))
        transfer_set = FixedImages(lambda: (Rows.of_files(paths, "pixels"), None))
        inputs = InputSpec.normalised(SHAPE, [], [])

        def work() -> None:
            train_on_teacher(student, teacher, transfer_set, inputs, settings, 0, label="distillation", trainer=trainer)

        with peak_memory(torch.device("cpu")) as peak:
            taken = seconds(work)
    return {"seconds": taken, "peak_memory_bytes": peak.num_bytes}


def tables() -> Iterator[Table]:
    """A line for little and for much."""
    table = Table("reconstructions in files", "images", "seconds", "peak memory, MB")
    for num_bytes in NUM_BYTES:
        images = num_bytes // BYTES_PER_IMAGE
        found = json.loads(children.python("-m", "benchmarks.memory", str(images)).splitlines()[-1])
        table.add_row(
            f"{num_bytes / 1e6:,.0f} MB",
            f"{images:,}",
            f"{found['seconds']:.0f}",
            f"{found['peak_memory_bytes'] / 1e6:,.0f}",
        )
    yield table


if __name__ == "__main__":
    print(json.dumps(distilled(int(sys.argv[1]))))
