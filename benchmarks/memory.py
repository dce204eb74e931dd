"""Peak memory and time of a reconstruction as the number of images grows: each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.table import Table

COMMAND = [
    "-m", "dfkd_exp", "scale=smoke", "trainer=cpu", "engine=plain", "logger=none", "reconstruction.group_size=10",
    "reconstruction.steps=2", "data=digits", "data.pad=10", "teacher=hinton_net", "student=mlp",
]  # fmt: skip
PER_CLASS = (640, 6400)


def growth() -> Table:
    """6,400 and 64,000 images of 28x28 for HintonNet: peak memory of the reconstruction phase, and seconds."""
    measured = {}
    for per_class in PER_CLASS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, *COMMAND, f"reconstruction.images_per_class={per_class}", f"outputs={folder}"]
            subprocess.run(command, check=True, capture_output=True)
            [path] = Path(folder).glob("runs/*/*/result.json")
            measured[per_class] = json.loads(path.read_text())["phases"]["reconstruction"]
    first = measured[PER_CLASS[0]]
    table = Table("images", "peak memory, MB", "ratio", "seconds", "ratio")
    for per_class, phase in measured.items():
        table.add_row(
            f"{10 * per_class:,}", f"{phase['peak_memory_bytes'] / 1e6:,.0f}",
            f"{phase['peak_memory_bytes'] / first['peak_memory_bytes']:.2f}", f"{phase['seconds']:.1f}",
            f"{phase['seconds'] / first['seconds']:.1f}",
        )  # fmt: skip
    return table
