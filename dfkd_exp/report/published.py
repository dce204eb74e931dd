"""Published figures beside ours: Markdown, CSV and LaTeX, from the result files of a sweep and nothing else.

An experiment says what was published of its rows and of its teacher (``published`` and ``published_teacher`` in its yaml), and each run
keeps that in its result.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from dfkd_exp.files import write_atomically
from dfkd_exp.harmless import in_markdown
from dfkd_exp.report.notes import notes
from dfkd_exp.report.numbers import headings_of, numbers_of
from dfkd_exp.report.plain import comma_separated, latex, markdown
from dfkd_exp.report.setting import Figure, Setting, published_of_teacher
from dfkd_exp.report.titles import teacher_of, teachers_in_words

TEACHER = "teacher, trained on the data"


def _signed(figure: Figure) -> str:
    return "–" if figure.mean is None else f"{figure.mean:+.2f}"


TEXTS: dict[str, Callable[[Figure], str]] = {
    "seeds": lambda figure: figure.text(0),
    "published %": Figure.text,
    "ours %": Figure.text,
    "difference": _signed,
    "bytes": lambda figure: figure.text(0) if figure.mean else "–",
    "images": lambda figure: figure.text(0),
    "seconds": lambda figure: Figure(figure.mean).text(0),
}
"""How people are shown a row's figures, by column."""
VARY = ("ours %", "seconds")
"""Columns of means over seeds, whose deviations CSV has too."""
COLUMNS = ("setting", *TEXTS)
ALIGN = "l" + "r" * len(TEXTS)


@dataclass(frozen=True)
class Row:
    """A setting's title and figures, one for each column."""

    title: str
    figures: tuple[Figure, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """As people are shown them, below `COLUMNS`."""
        return (self.title, *(text(figure) for text, figure in zip(TEXTS.values(), self.figures, strict=True)))


def published_rows(settings: Sequence[Setting]) -> list[Row]:
    """Each teacher's row, then one per setting, mean and deviation over its seeds. Empty if the experiment has no published
    figures, for these settings or others."""
    results = [result for setting in settings for result in setting.results]
    if not any(map(_has_published, results)):
        return []
    rows: list[Row] = []
    unknown = Figure(None)
    words = dict(zip(map(teacher_of, results), teachers_in_words(results), strict=True))
    for teacher, told in words.items():
        # One of a seed for all rows.
        own = list({result["seed"]: result for result in results if teacher_of(result) == teacher}.values())
        title, trained = f"{TEACHER}; {told}" if told else TEACHER, Setting("", own)
        beside = _beside(trained.teacher, published_of_teacher(own[0]))
        rows.append(Row(title, (Figure(len(own)), *beside, unknown, unknown, unknown)))
    for setting in settings:
        cost = Figure(setting.num_bytes), Figure(setting.results[0]["images"]), setting.seconds
        beside = _beside(setting.accuracy, setting.published)
        rows.append(Row(setting.title, (Figure(len(setting.results)), *beside, *cost)))
    return rows


def _has_published(result: dict[str, Any]) -> bool:
    """Whether there are figures for the task of the run's experiment, be it the run's or not."""
    return result.get("published_teacher") is not None or (result.get("row") or {}).get("published") is not None


def _beside(ours: Figure, theirs: float | None) -> tuple[Figure, Figure, Figure]:
    """What was published, ours, and how far ours is from it in points."""
    apart = None if ours.mean is None or theirs is None else ours.mean - theirs
    return Figure(theirs), ours, Figure(apart)


def show(rows: Sequence[Row], said: Sequence[str] = ()) -> Table:
    """For the terminal; ``said`` of all figures, below them."""
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), caption=escape("\n".join(said)), caption_justify="left"
    )
    for name, side in zip(COLUMNS, ALIGN, strict=True):
        table.add_column(name, justify="left" if side == "l" else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row.cells))
    return table


def write_published(settings: Sequence[Setting], folder: Path) -> list[Path]:
    """The tables of those settings in ``folder``, which is made; none where the experiment has no published figures."""
    rows = published_rows(settings)
    if not rows:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    return write_tables(folder, rows, notes(result for setting in settings for result in setting.results))


def write_tables(folder: Path, rows: Sequence[Row], said: Sequence[str] = ()) -> list[Path]:
    """``table.md``, ``table.csv`` and ``table.tex`` in ``folder``; of these CSV is for programs, with plain numbers. ``said`` of all
    figures, below them, but not among the CSV's."""
    cells, varies = [row.cells for row in rows], [name in VARY for name in TEXTS]
    headings = [COLUMNS[0], *headings_of([*zip(TEXTS, varies, strict=True)])]
    numbers = [[row.title, *numbers_of([*zip(row.figures, varies, strict=True)])] for row in rows]
    texts = {
        "table.md": markdown(COLUMNS, cells, ALIGN) + "".join(f"\n{in_markdown(note)}\n" for note in said),
        "table.csv": comma_separated(headings, numbers),
        "table.tex": latex(COLUMNS, cells, ALIGN, said),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in texts]
