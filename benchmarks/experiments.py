"""The whole of a quick experiment, from nothing to the student's accuracy: as it is, and as it was with a plain loop."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from benchmarks import children
from dfkd_exp.data import Mnist
from dfkd_exp.errors import DfkdError

PLAIN = ("engine=plain", "parametrisation.start=noise")
STEPS_FROM_NOISE = {"experiment=mnist_lenet_quick": 200, "experiment=mnist_hinton_quick": 150}
"""What each needed before there was an engine and a better start."""


def missing_data() -> str:
    """Why MNIST cannot be read here; empty if it can. It is not downloaded."""
    try:
        Mnist(download=False).load()
    except DfkdError as error:
        return str(error)
    return ""


def tables() -> Iterator[Table | str]:
    """Seconds of the command with its start, compilation and measuring, once each; and the accuracies that it ends with."""
    if missing := missing_data():
        yield escape(f"experiments: skipped. {missing}")
        return
    table = Table("dfkd …", "ours, s", f"{' '.join(PLAIN)}, s", "ratio", "student, %", "plain, %")
    for experiment, steps in STEPS_FROM_NOISE.items():
        ours, accuracy = _once(experiment)
        plain, plain_accuracy = _once(experiment, *PLAIN, f"reconstruction.steps={steps}")
        ratio = f"{plain / ours:.1f}x"
        table.add_row(
            experiment, f"{ours:.0f}", f"{plain:.0f}", ratio, f"{100 * accuracy:.2f}", f"{100 * plain_accuracy:.2f}"
        )
    yield table


def _once(*arguments: str) -> tuple[float, float]:
    """Seconds and the student's accuracy."""
    started = time.perf_counter()
    accuracy = children.dfkd(*arguments)["accuracy"]
    return time.perf_counter() - started, accuracy
