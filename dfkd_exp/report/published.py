"""Published figures beside ours: Markdown, CSV and LaTeX, from the result files of a sweep and nothing else.

An experiment says what was published of its rows and of its teacher (``published`` and ``published_teacher`` in its yaml), and each run
keeps that in its result.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from dfkd_exp.files import write_atomically
from dfkd_exp.report.plain import comma_separated, latex, markdown
from dfkd_exp.report.setting import Figure, Setting
from dfkd_exp.report.titles import teacher_of, teachers_in_words

COLUMNS = ("setting", "seeds", "published %", "ours %", "difference", "bytes", "images", "seconds")
ALIGN = "l" + "r" * (len(COLUMNS) - 1)
TEACHER = "teacher, trained on the data"


def published_rows(settings: Sequence[Setting]) -> list[tuple[str, ...]]:
    """Each teacher's line, then one per setting, mean and deviation over its seeds; cells as `COLUMNS` has them.

    Empty if nothing was published of any.
    """
    results = [result for setting in settings for result in setting.results]
    theirs = next((r["published_teacher"] for r in results if r.get("published_teacher") is not None), None)
    if theirs is None and all(setting.published is None for setting in settings):
        return []
    lines: list[tuple[str, ...]] = []
    words = dict(zip(map(teacher_of, results), teachers_in_words(results), strict=True))
    for teacher, told in words.items():
        # One of a seed for all rows.
        own = list({result["seed"]: result for result in results if teacher_of(result) == teacher}.values())
        title, trained = f"{TEACHER}; {told}" if told else TEACHER, Setting("", own)
        lines.append((title, str(len(own)), *_beside(trained.teacher, theirs), "–", "–", "–"))
    for setting in settings:
        num_bytes = f"{setting.num_bytes:,}" if setting.num_bytes else "–"
        images, seconds = f"{setting.results[0]['images']:,}", Figure(setting.seconds.mean).text(0)
        beside = _beside(setting.accuracy, setting.published)
        lines.append((setting.title, str(len(setting.results)), *beside, num_bytes, images, seconds))
    return lines


def _beside(ours: Figure, theirs: float | None) -> tuple[str, str, str]:
    """What was published, ours, and how far ours is from it in points."""
    apart = "–" if ours.mean is None or theirs is None else f"{ours.mean - theirs:+.2f}"
    return Figure(theirs).text(), ours.text(), apart


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
