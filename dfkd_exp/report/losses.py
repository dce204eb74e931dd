"""The students' losses over their training, as the runs have logged them."""

from __future__ import annotations

import csv
from pathlib import Path

from dfkd_exp import console
from dfkd_exp.harmless import brief
from dfkd_exp.report.summary import Sweep
from dfkd_exp.run_folder import read_text

CURVE = Path("logs", "student", "metrics.csv")

Curve = tuple[str, list[float], list[float]]
"""What it is called, epochs, and the loss after each."""


def student_curves(sweep: Sweep) -> tuple[list[Curve], list[str]]:
    """A curve of each setting, of the first of its runs that has one; and the settings of which none has. A run whose student was in the
    store trained none, and other loggers keep theirs elsewhere."""
    found, without = [], []
    for number, setting in enumerate(sweep.settings, 1):
        name = f"{number}. {setting.title}"
        curves = (_logged(folder / CURVE) for folder in sweep.folders_of(setting))
        epochs, losses = next(filter(any, curves), ([], []))
        if epochs:
            found.append((name, epochs, losses))
        else:
            without.append(name)
    return found, without


def _logged(path: Path) -> tuple[list[float], list[float]]:
    """Epochs and losses; none if they are not there, and after a warning if they cannot be read."""
    if not path.is_file():
        return [], []
    try:
        rows = list(csv.DictReader(read_text(path).splitlines()))
        points = [(float(row["epoch"]), float(row["loss"])) for row in rows if row.get("loss") and row.get("epoch")]
    except (csv.Error, ValueError) as error:
        console.warn(f"{path} cannot be read ({brief(str(error))}); its curve is left out")
        return [], []
    return [epoch for epoch, _ in points], [loss for _, loss in points]
