"""The paper's tables beside our rows: Markdown, CSV and LaTeX, from the result files of a sweep and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dfkd_exp.report.plain import comma_separated, latex, markdown
from dfkd_exp.report.tables import percent, teacher_accuracy
from dfkd_exp.store import write_atomically

PAPER: dict[str, dict[str, float | None]] = {
    "table1": {
        "teacher": 96.95, "labels": 95.70, "data": 95.74, "top_layer": 68.75, "all_layers": 76.38,
        "all_layers_dropout": 76.23, "spectral_all_layers": 89.41, "spectral_layer_pairs": 91.24,
    },
    "table2": {
        "teacher": 98.91, "labels": 98.65, "data": 98.91, "top_layer": 77.30, "all_layers": 85.61,
        "spectral_all_layers": 90.28, "spectral_layer_pairs": 92.47,
    },
    "table3": {
        "teacher": 80.82, "labels": 81.59, "data": 69.53, "top_layer": 54.12, "spectral_all_layers_dense": 77.56,
        "spectral_layer_pairs_dense": 76.94,
    },
}  # fmt: skip
"""Test accuracies in per cent. Source: Lopes, Fenu and Starner (2017), Tables 1 to 3, which do not say how many records the spectral
rows are of."""

MORE_RECORDS = "_1000"
"""Ends a row of 1,000 records per class: the paper's figure stands beside it as beside 100."""

TITLES = {
    "teacher": "teacher, trained on the data",
    "labels": "student, trained on the data",
    "data": "student, distilled on the data",
    "noise": "student, distilled on noise",
    "top_layer": "top layer",
    "all_layers": "all layers",
    "all_layers_dropout": "all layers, fixed dropout masks",
    "spatial": "spatial (ours)",
    "spectral_all_layers": "spectral, all layers",
    "spectral_layer_pairs": "spectral, layer pairs",
    "spectral_all_layers_1000": "spectral, all layers, 1,000 records per class",
    "spectral_layer_pairs_1000": "spectral, layer pairs, 1,000 records per class",
    "spectral_all_layers_dense": "spectral, all dense layers",
    "spectral_layer_pairs_dense": "spectral, pairs of dense layers",
}
"""In the order of the table; ``bytes_KIND`` follows its kind."""

COLUMNS = ("row", "recipe", "seeds", "paper %", "ours %", "difference", "bytes", "images", "seconds")


@dataclass(frozen=True)
class Row:
    """One line: ``cells`` by the names of `COLUMNS`."""

    cells: tuple[str, ...]


def paper_rows(results: Sequence[dict[str, Any]], table: str) -> list[Row]:
    """A line per row and recipe that has results, mean and deviation over its seeds; the teacher's first."""
    published = PAPER[table]
    rows = []
    if results:
        by_seed = {result["seed"]: teacher_accuracy(result) for result in results}
        rows.append(_line("teacher", "", list(by_seed.values()), published.get("teacher"), [], len(by_seed)))
    grouped: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for result in results:
        said = dict(override.partition("=")[::2] for override in result["overrides"])
        row, recipe = said.get("row", ""), said.get("recipe", "")
        grouped.setdefault((_place(row), row, recipe), []).append(result)
    for (_, row, recipe), group in sorted(grouped.items(), key=lambda entry: (entry[0][0], entry[0][2] != "paper")):
        accuracies = [result["accuracy"] for result in group]
        paper = published.get(row.removesuffix(MORE_RECORDS))
        rows.append(_line(row, recipe, accuracies, paper, group, len({r["seed"] for r in group})))
    return rows


def _place(row: str) -> int:
    kind = row.removeprefix("bytes_")
    order = list(TITLES)
    return 2 * (order.index(kind) if kind in order else len(order)) + (kind != row)


def _line(
    row: str, recipe: str, accuracies: list[float | None], paper: float | None, group: list[dict[str, Any]], seeds: int
) -> Row:
    kind = row.removeprefix("bytes_")
    title = TITLES.get(kind, kind) if kind == row else f"the same bytes of real images: {TITLES.get(kind, kind)}"
    known = [100 * value for value in accuracies if value is not None]
    difference = f"{statistics.fmean(known) - paper:+.2f}" if known and paper is not None else "–"
    num_bytes = f"{group[0]['source_bytes']:,}" if group and group[0]["source_bytes"] else "–"
    return Row(
        (
            title, recipe, str(seeds), "–" if paper is None else f"{paper:.2f}", percent(accuracies), difference, num_bytes,
            f"{group[0]['images']:,}" if group else "–",
            f"{statistics.fmean(result['seconds'] for result in group):,.0f}" if group else "–",
        )
    )  # fmt: skip


def show(rows: Sequence[Row]) -> Table:
    """For the terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("row", "recipe") else "right", overflow="fold")
    for row in rows:
        table.add_row(*row.cells)
    return table


def write_tables(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """``table.md``, ``table.csv`` and ``table.tex`` in ``folder``."""
    cells, align = [row.cells for row in rows], "ll" + "r" * (len(COLUMNS) - 2)
    texts = {
        "table.md": markdown(COLUMNS, cells, align),
        "table.csv": comma_separated(COLUMNS, cells),
        "table.tex": latex(COLUMNS, cells, align),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in texts]
