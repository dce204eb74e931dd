"""A table of any columns as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence


def markdown(words: Sequence[str], headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"- {sentence}" for sentence in words] + [""]
    lines += ["| " + " | ".join(headings) + " |", "|---:|---|" + "---:|" * (len(headings) - 2)]
    return (
        "\n".join([*lines, *("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)])
        + "\n"
    )


def comma_separated(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([headings, *rows])
    return text.getvalue()


def latex(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """With booktabs' rules."""
    special = {"\\": r"\textbackslash{}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
               "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"}  # fmt: skip

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(special.get(c, c) for c in cell) for cell in cells) + r" \\"

    head = [r"\begin{tabular}{rl" + "r" * (len(headings) - 2) + "}", r"\toprule", line(headings), r"\midrule"]
    return "\n".join([*head, *map(line, rows), r"\bottomrule", r"\end{tabular}"]) + "\n"
