"""A table of any columns as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from dfkd_exp.harmless import in_csv, in_markdown, printable


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """``align``: ``l`` or ``r`` for each column."""
    lines = [headings, ["---:" if side == "r" else "---" for side in align]]
    lines += [[*map(in_markdown, row)] for row in rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def comma_separated(headings: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> str:
    """For programs: numbers are plain and in full, and a cell is empty where there is none."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([headings, *(map(_cell, row) for row in rows)])
    return text.getvalue()


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return in_csv(value) if isinstance(value, str) else f"{value:.15g}"


def latex(headings: Sequence[str], rows: Sequence[Sequence[str]], align: str, notes: Sequence[str] = ()) -> str:
    """With booktabs' rules; ``align`` as LaTeX has it; ``notes`` below the last rule, as wide as the page lets them be."""
    special = {"\\": r"\textbackslash{}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
               "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"}  # fmt: skip

    def text(cell: str) -> str:
        return "".join(special.get(c, c) for c in printable(cell))

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(text, cells)) + r" \\"

    def below(note: str) -> str:
        return rf"\multicolumn{{{len(headings)}}}{{p{{0.95\linewidth}}}}{{\footnotesize {text(note)}}} \\"

    head = [r"% \usepackage{booktabs}", r"\begin{tabular}{" + align + "}", r"\toprule", line(headings), r"\midrule"]
    return "\n".join([*head, *map(line, rows), r"\bottomrule", *map(below, notes), r"\end{tabular}"]) + "\n"
