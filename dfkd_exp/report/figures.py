"""The report's drawings, as SVG for the page and as SVG and PNG for papers."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from dfkd_exp.report.summary import Setting, pareto

INK = "#123456"
"""Stands for the colour of the text, which follows the page: light or dark."""
OURS, REAL, FRONT = "#2a78d6", "#c2570c", "#2a78d6"
MOST_LABELS, MOST_CURVES = 40, 10
"""That are named in a drawing."""


def accuracy_against(settings: Sequence[Setting], what: str, numbered: Sequence[Setting] | None = None) -> Any:
    """A figure of accuracy against ``bytes``, ``seconds`` or the better ``attack``, with deviations over seeds; for bytes with the Pareto
    front. Points have the numbers that the settings have in ``numbered``."""
    from matplotlib.figure import Figure

    of: dict[str, Callable[[Setting], float | None]] = {
        "bytes": lambda setting: setting.num_bytes or None,
        "seconds": lambda setting: setting.seconds.mean,
        "attack": lambda setting: max(setting.attack(on).mean or 0 for on in ("metadata", "shown")),
    }
    drawn = [(x, s.accuracy.mean, s) for s in settings if s.accuracy.mean is not None and (x := of[what](s))]
    figure = Figure(figsize=(7.2, 4.2))
    axes = figure.subplots()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for real, colour, marker, name in ((False, OURS, "o", "without real images"), (True, REAL, "s", "real images")):
        points = [point for point in drawn if point[2].real is real]
        if points:
            axes.errorbar(
                [x for x, _, _ in points], [y for _, y, _ in points], [s.accuracy.deviation or 0.0 for _, _, s in points],
                fmt=marker, color=colour, capsize=3, markersize=6, label=name, linestyle="none",
            )  # fmt: skip
    front = pareto(settings) if what == "bytes" else []
    if len(front) > 1:
        line_x, line_y = [s.num_bytes for s in front], [s.accuracy.mean or 0.0 for s in front]
        axes.plot(line_x, line_y, color=FRONT, alpha=0.4, linewidth=2, label="best for its bytes")
    abscissae = [x for x, _, _ in drawn]
    if drawn and max(abscissae) > 10 * min(abscissae):
        axes.set_xscale("log")
    numbers = {id(setting): number for number, setting in enumerate(numbered or settings, 1)}
    for place, height, setting in drawn[:MOST_LABELS]:
        axes.annotate(
            str(numbers[id(setting)]), (place, height), xytext=(5, 5), textcoords="offset points", fontsize=8, color=INK
        )  # fmt: skip
    axes.set_xlabel(
        {
            "bytes": "bytes of metadata, or of real images",
            "seconds": "seconds, without the teacher's training",
            "attack": "AUC of the better attack (0.5: chance)",
        }[what]
    )
    axes.set_ylabel("true accuracy of the student, %")
    axes.grid(True, alpha=0.2, color=INK)
    if drawn:
        axes.legend(fontsize=8, framealpha=0, labelcolor=INK, loc="upper left", bbox_to_anchor=(0, 1.12), ncols=3)
    _ink(axes)
    figure.tight_layout()
    return figure


def curves(series: Sequence[tuple[str, Sequence[float], Sequence[float]]], label: str) -> Any:
    """A figure of losses against epochs: ``(name, x, y)`` each."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6))
    axes = figure.subplots()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    for number, (name, x, y) in enumerate(series):
        axes.plot(x, y, label=name, linewidth=1.2, color=colours[number % len(colours)])
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.grid(True, alpha=0.2, color=INK)
    if 0 < len(series) <= MOST_CURVES:
        axes.legend(fontsize=7, framealpha=0, labelcolor=INK)
    _ink(axes)
    figure.tight_layout()
    return figure


def _ink(axes: Any) -> None:
    axes.tick_params(colors=INK, which="both")
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for spine in axes.spines.values():
        spine.set_color(INK)


def svg(figure: Any, for_page: bool) -> str:
    """The figure as SVG, the same bytes each time: in the page's own colours and without a size, or black for papers."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": "dfkd", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn[drawn.index("<svg") :], flags=re.S)
    return drawn.replace(INK, "currentColor" if for_page else "#000000")


def png(figure: Any) -> bytes:
    """The figure as PNG on white, 200 dots per inch."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return content.getvalue()
