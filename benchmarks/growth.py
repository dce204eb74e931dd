"""Seconds and peak memory of a reconstruction against images, steps, classes and layer width: each in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks import children

COMMAND = [
    "scale=smoke", "trainer=cpu", "engine=plain", "logger=none", "reconstruction.group_size=10", "data=digits",
    "data.pad=10", "student=mlp",
]  # fmt: skip
PIXELS = 28 * 28


def command(teacher: str, images: int, steps: int, *overrides: str) -> dict[str, Any]:
    """The reconstruction phase of ``dfkd``: ``images`` of 28x28 in ten classes."""
    budget = [f"reconstruction.images_per_class={images // 10}", f"reconstruction.steps={steps}"]
    return children.dfkd(*COMMAND, f"teacher={teacher}", *budget, *overrides)["phases"]["reconstruction"]


def classes(num_classes: int) -> dict[str, Any]:
    """The same number of images in all, from synthetic metadata."""
    return json.loads(children.python("-m", "benchmarks.classes", str(num_classes)).splitlines()[-1])


def weights(width: int) -> int:
    """Of a net of two hidden layers: what an image-step costs is proportional to them."""
    return PIXELS * width + width**2 + 10 * width


class Axis(NamedTuple):
    """``measure(value)`` for each of ``values``; seconds should grow like ``expected(value)``."""

    values: tuple[Any, ...]
    measure: Callable[[Any], dict[str, Any]]
    expected: Callable[[Any], float]
    note: str

    def table(self, name: str) -> Table:
        """A line for each value; ratios are to the first."""
        table = Table(name, "seconds", "ratio", "expected", "peak memory, MB", "ratio", caption=self.note)
        phases = {value: self.measure(value) for value in self.values}
        first = phases[self.values[0]]
        for value, phase in phases.items():
            table.add_row(
                value if isinstance(value, str) else f"{value:,}", f"{phase['seconds']:.1f}", f"{phase['seconds'] / first['seconds']:.1f}",
                f"{self.expected(value) / self.expected(self.values[0]):.1f}", f"{phase['peak_memory_bytes'] / 1e6:,.0f}",
                f"{phase['peak_memory_bytes'] / first['peak_memory_bytes']:.2f}",
            )  # fmt: skip
        return table


AXES = {
    "images": Axis(
        (6_400, 25_600, 102_400),
        lambda images: command("hinton_net", images, steps=2),
        lambda images: images,
        "HintonNet, 2 steps. Time is linear, memory constant: finished images are on disk.",
    ),
    "steps": Axis(
        (20, 80, 320),
        lambda steps: command("hinton_net", 1_000, steps),
        lambda steps: steps,
        "HintonNet, 1,000 images. Time is linear, memory constant.",
    ),
    "classes": Axis(
        (10, 40, 160),
        classes,
        lambda classes: 1,
        "HintonNet, 6,400 images in all, 20 steps. Time is constant, so linear for so many images of each class; memory "
        "grows by the metadata.",
    ),
    "width": Axis(
        (600, 1_200, 2_400, 4_800),
        lambda width: command("mlp", 1_000, 20, f"+teacher.kwargs.width={width}"),
        weights,
        "784-width-width-10, 1,000 images, 20 steps. Time is linear in the weights, so nearly quadratic in a large width; "
        "memory grows by the weights.",
    ),
}


def tables() -> Iterator[Table]:
    """A table per axis."""
    return (axis.table(name) for name, axis in AXES.items())
