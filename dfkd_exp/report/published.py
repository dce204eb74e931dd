"""Published figures beside ours: Markdown, CSV and LaTeX, from the result files of a sweep and nothing else.

An experiment says what was published of its rows and of its teacher (``published`` and ``published_teacher`` in its yaml), and each run
keeps that in its result.json.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from dfkd_exp.config.rows import said_otherwise
from dfkd_exp.files import write_atomically
from dfkd_exp.report.plain import comma_separated, latex, markdown
from dfkd_exp.report.tables import by_setting, percent, teacher_accuracy
from dfkd_exp.report.titles import teacher_of, teachers_in_words

COLUMNS = ("setting", "seeds", "published %", "ours %", "difference", "bytes", "images", "seconds")
ALIGN = "l" + "r" * (len(COLUMNS) - 1)
TEACHER = "teacher, trained on the data"


def published(result: dict[str, Any]) -> float | None:
    """The accuracy in per cent that was published for the row that a run is; of a run that says otherwise than its row none was."""
    row = result.get("row") or {}
    return None if said_otherwise(row, result["overrides"]) else row.get("published")


def published_rows(results: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Each teacher's line, then one per setting, mean and deviation over its seeds, in the sweep's order; cells as `COLUMNS` has them.

    Empty if nothing was published of any.
    """
    theirs = next((r["published_teacher"] for r in results if r.get("published_teacher") is not None), None)
    if theirs is None and all(published(result) is None for result in results):
        return []
    lines, words = [], dict(zip(map(teacher_of, results), teachers_in_words(results), strict=True))
    for teacher, told in words.items():
        own = {result["seed"]: teacher_accuracy(result) for result in results if teacher_of(result) == teacher}
        lines.append(_line(f"{TEACHER}; {told}" if told else TEACHER, len(own), list(own.values()), theirs, []))
    for title, group in by_setting(results).items():
        accuracies = [result["accuracy"] for result in group]
        lines.append(_line(title, len(group), accuracies, published(group[0]), group))
    return lines


def difference(accuracies: Sequence[float | None], theirs: float | None) -> str:
    """Of the mean of ``accuracies`` in [0, 1], in points; a dash where there is nothing to compare."""
    known = [100 * value for value in accuracies if value is not None]
    return f"{statistics.fmean(known) - theirs:+.2f}" if known and theirs is not None else "–"


def _line(
    title: str, seeds: int, accuracies: list[float | None], theirs: float | None, group: list[dict[str, Any]]
) -> tuple[str, ...]:
    figures = ("–", "–", "–")
    if group:
        num_bytes, seconds = group[0]["source_bytes"], statistics.fmean(result["seconds"] for result in group)
        figures = (f"{num_bytes:,}" if num_bytes else "–", f"{group[0]['images']:,}", f"{seconds:,.0f}")
    beside = "–" if theirs is None else f"{theirs:.2f}"
    return (title, str(seeds), beside, percent(accuracies), difference(accuracies, theirs), *figures)


def show(rows: Sequence[tuple[str, ...]]) -> Table:
    """For the terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name, side in zip(COLUMNS, ALIGN, strict=True):
        table.add_column(name, justify="left" if side == "l" else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def write_tables(folder: Path, rows: Sequence[tuple[str, ...]]) -> list[Path]:
    """``table.md``, ``table.csv`` and ``table.tex`` in ``folder``."""
    texts = {
        "table.md": markdown(COLUMNS, rows, ALIGN),
        "table.csv": comma_separated(COLUMNS, rows),
        "table.tex": latex(COLUMNS, rows, ALIGN),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in texts]
