"""A sweep's figures for programs, as CSV: a line for each setting, and for each run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from dfkd_exp.config.overrides import is_of
from dfkd_exp.report.columns import Column
from dfkd_exp.report.plain import comma_separated
from dfkd_exp.report.setting import Figure, Setting
from dfkd_exp.report.summary import Sweep


def headings_of(columns: Sequence[tuple[str, bool]]) -> list[str]:
    """Those of columns of figures, by name and whether they vary over seeds, which has a deviation beside the mean."""
    return [heading for name, varies in columns for heading in (name, *([f"{name} deviation"] if varies else ()))]


def numbers_of(figures: Sequence[tuple[Figure, bool]]) -> list[float | None]:
    """A line's cells below `headings_of`."""
    return [x for figure, varies in figures for x in (figure.mean, *([figure.deviation] if varies else ()))]


def settings_in_numbers(settings: Sequence[Setting], columns: Sequence[Column]) -> str:
    """A line for each setting: means and deviations over its seeds."""
    headings = ["no", "setting", *headings_of([(column.name, column.varies) for column in columns])]
    rows = [
        [number, setting.title, *numbers_of([(column.figure(setting), column.varies) for column in columns])]
        for number, setting in enumerate(settings, 1)
    ]
    return comma_separated(headings, rows)


def runs_in_numbers(sweep: Sweep, columns: Sequence[Column], folder: Path) -> str:
    """A line for each run: its setting, what not all were told, its seed, its figures, and its place as seen from ``folder``."""
    of_runs = [column for column in columns if column.name != "seeds"]
    told = [set(result["overrides"]) for setting in sweep.settings for result in setting.results]
    shared = set.intersection(*told) if told else set()
    rows: list[list[str | float | None]] = []
    for number, setting in enumerate(sweep.settings, 1):
        for result, place in zip(setting.results, sweep.folders_of(setting), strict=True):
            differs = [text for text in result["overrides"] if text not in shared and not is_of(text, ("seed",))]
            alone = Setting(setting.title, [result])
            figures = [column.figure(alone).mean for column in of_runs]
            where = os.path.relpath(place.absolute(), folder.absolute())
            rows.append([number, setting.title, shlex.join(differs), result["seed"], *figures, where])
    return comma_separated(["no", "setting", "told", "seed", *(column.name for column in of_runs), "folder"], rows)
