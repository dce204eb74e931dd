"""The report's drawings, as SVG for the page and as SVG and PNG for papers."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dfkd_exp.harmless import printable
from dfkd_exp.report.labels import KEY_SIZE, SLACK, draw_key, key_height, key_lines, label_ends, label_points
from dfkd_exp.report.scales import beside_zero, scale
from dfkd_exp.report.setting import Setting
from dfkd_exp.report.summary import pareto
from dfkd_exp.report.titles import teachers_in_words

if TYPE_CHECKING:
    from dfkd_exp.evaluation.likeness import LayerLikeness

INK = "#123456"
"""Stands for the colour of the text, which follows the page: light or dark."""
OURS, REAL, FRONT = "#2a78d6", "#c2570c", "#2a78d6"
OVER_TRAINING = "accuracy-over-training"
END_WIDTH, END_LINE = 44, 0.16
"""Characters of a line of what a curve is called at its end, and its height in inches."""
MOST_LABELS, MOST_TITLES = 40, 8
"""Points and curves that are named in a drawing at all, and points that may be named by their titles."""


def accuracy_against(
    settings: Sequence[Setting], what: str, numbered: Sequence[Setting] | None = None, title: str = ""
) -> Any:
    """A figure of accuracy against ``bytes``, ``seconds`` or the better ``attack``, with deviations over seeds; for bytes with the Pareto
    front, and what a student learns of all training images as a line across. Where there is room, points are called by their settings'
    titles; else by the numbers that those have in ``numbered``, and a key below says which is which. ``title``: of all that is drawn."""
    of: dict[str, Callable[[Setting], float | None]] = {
        "bytes": lambda setting: None if setting.whole else setting.num_bytes,
        "seconds": lambda setting: setting.seconds.mean,
        "attack": lambda setting: (
            max(setting.attack(on).mean or 0 for on in ("metadata", "metadata_shadows", "shown")) or None
        ),
    }
    drawn = [(x, y, s) for s in settings if (y := s.accuracy.mean) is not None and (x := of[what](s)) is not None]
    if what == "bytes":
        beside = beside_zero([(x, y) for x, y, _ in drawn])
        drawn = [(x, y, setting) for x, (_, y, setting) in zip(beside, drawn, strict=True)]
    numbers = {id(setting): number for number, setting in enumerate(numbered or settings, 1)}
    named = drawn[:MOST_LABELS]
    points, titles = [(x, y) for x, y, _ in named], [setting.title for _, _, setting in named]
    deviations = [setting.accuracy.deviation or 0.0 for _, _, setting in named]
    front = pareto(settings) if what == "bytes" else []
    whole = [s for s in settings if what == "bytes" and s.whole and s.accuracy.mean is not None]
    if 0 < len(named) <= MOST_TITLES:
        figure, axes = _scatter(drawn, what, front, whole, 0.0, title)
        if label_points(axes, points, deviations, titles, INK, 7.5):
            return figure
    counted = [str(numbers[id(setting)]) for _, _, setting in named]
    key = [f"{number}. {title}" for number, title in zip(counted, titles, strict=True)]
    figure, axes = _scatter(drawn, what, front, whole, key_height(key) if key else 0.0, title)
    label_points(axes, points, deviations, counted, INK, 8)
    draw_key(figure, key, INK)
    return figure


def _scatter(
    drawn: Sequence[tuple[float, float, Setting]],
    what: str,
    front: Sequence[Setting],
    whole: Sequence[Setting],
    foot: float,
    title: str,
) -> tuple[Any, Any]:
    """The points without their labels, the ``front`` through some of them and lines across for those of the ``whole`` data, with ``foot``
    inches of room below; figure and axes, in their final places."""
    figure, axes = _blank(4.2, foot)
    for real, colour, marker, name in ((False, OURS, "o", "without real images"), (True, REAL, "s", "real images")):
        points = [point for point in drawn if point[2].real is real]
        if points:
            axes.errorbar(
                [x for x, _, _ in points], [y for _, y, _ in points], [s.accuracy.deviation or 0.0 for _, _, s in points],
                fmt=marker, color=colour, capsize=3, markersize=6, label=name, linestyle="none",
            )  # fmt: skip
    if len(front) > 1:
        line_x, line_y = [s.num_bytes for s in front], [s.accuracy.mean or 0.0 for s in front]
        axes.plot(line_x, line_y, color=FRONT, alpha=0.4, linewidth=2, label="best for its bytes")
    for number, setting in enumerate(whole):
        name = "all training images" if len(whole) == 1 else textwrap.shorten(printable(setting.title), END_WIDTH)
        style = ("--", ":", "-.")[number % 3]
        axes.axhline(setting.accuracy.mean, color=REAL, alpha=0.6, linewidth=1.2, linestyle=style, label=name)
    axes.margins(0.08)
    scale([x for x, _, _ in drawn], axes)
    axes.set_xlabel(
        {
            "bytes": "bytes of metadata, or of real images",
            "seconds": "seconds, without the teacher's training",
            "attack": "AUC of the best attack (0.5: chance)",
        }[what]
    )
    axes.set_ylabel("true accuracy of the student, %")
    if title:
        axes.set_title(printable(title), fontsize=8, color=INK, parse_math=False, loc="right")
    if drawn:
        axes.legend(fontsize=8, framealpha=0, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    _finish(figure, axes, foot)
    return figure, axes


def over_training(settings: Sequence[Setting], title: str = "") -> Any:
    """A figure of true accuracy against the seconds of all phases but the teacher's, a curve for each of the settings that have one (the
    first MOST_LABELS), mean and deviation over the seeds, which is called by its title beside where it ends."""
    from matplotlib import colormaps

    drawn = [(setting.title, setting.curve) for setting in settings if setting.curve][:MOST_LABELS]
    titles = [textwrap.wrap(printable(title), END_WIDTH, max_lines=2, placeholder=" …") for title, _ in drawn]
    figure, axes = _blank(max(4.2, 0.9 + sum(map(len, titles)) * END_LINE), 0.0)
    palette = colormaps["tab10"].colors  # type: ignore[attr-defined]
    colours = [palette[number % len(palette)] for number in range(len(drawn))]
    styles = [("-", (0, (2, 1)), "-.")[number // len(palette) % 3] for number in range(len(drawn))]
    for number, (_, curve) in enumerate(drawn):
        x, y = [seconds for seconds, _ in curve], [accuracy.mean or 0.0 for _, accuracy in curve]
        spread = [accuracy.deviation or 0.0 for _, accuracy in curve]
        axes.plot(x, y, linestyle=styles[number], marker="o", markersize=2.5, linewidth=1.4, color=colours[number])
        low, high = ([m + sign * s for m, s in zip(y, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=colours[number], alpha=0.15, linewidth=0)
    ends = [(curve[-1][0], curve[-1][1].mean or 0.0) for _, curve in drawn]
    scale([seconds for seconds, _ in ends], axes)
    if ends:
        # What tells students apart lies near the ends; the first epochs, far below, would leave no room for it.
        lowest, highest = min(y for _, y in ends), max(y for _, y in ends)
        bottom = max(axes.dataLim.y0, lowest - 10 - 2 * (highest - lowest))
        top = min(axes.dataLim.y1, 100)
        axes.set_ylim(bottom - 0.03 * (top - bottom), top + 0.05 * (top - bottom) + 0.1)
    axes.set_xlabel("seconds, without the teacher's training")
    axes.set_ylabel("true accuracy of the student, %")
    axes.set_title(printable(title), fontsize=8, color=INK, parse_math=False)
    drafts = [axes.text(0, 0, "\n".join(lines), fontsize=7, va="center", parse_math=False) for lines in titles]
    renderer, width = figure.canvas.get_renderer(), figure.bbox.width
    widest = max((draft.get_window_extent(renderer).width for draft in drafts), default=0.0)
    for draft in drafts:
        draft.set_in_layout(False)
    _finish(figure, axes, 0.0, right=0.93 - SLACK * widest / width)
    label_ends(axes, ends, drafts, list(zip(colours, styles, strict=True)), INK)
    return figure


def for_each_teacher(name: str, settings: Sequence[Setting], draw: Callable[..., Any]) -> dict[str, Any]:
    """The drawings ``draw(settings, title=…)`` by name: one, or one for each teacher where each has several settings."""
    words = teachers_in_words([setting.results[0] for setting in settings])
    teachers = list(dict.fromkeys(words))
    of_each = [[s for s, said in zip(settings, words, strict=True) if said == teacher] for teacher in teachers]
    if len(teachers) > 1 and min(map(len, of_each)) > 1:
        drawn = zip(teachers, of_each, strict=True)
        return {f"{name}-{n}": draw(group, title=teacher) for n, (teacher, group) in enumerate(drawn, 1)}
    return {name: draw(settings)} if settings else {}


def how_images_vary(layers: Sequence[LayerLikeness]) -> Any:
    """A figure of made images' deviations beside real images', layer by layer."""
    figure, axes = _blank(3.6, 0.0)
    numbers = range(1, len(layers) + 1)
    for name, words, colour, marker in (
        ("overall", "all values", "#777777", "s"),
        ("between", "means of images, per channel", OURS, "o"),
        ("contrast", "contrasts of images, per channel", REAL, "^"),
    ):
        points = [(x, y) for x, layer in zip(numbers, layers, strict=True) if (y := getattr(layer, name)) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker=marker, markersize=4, linewidth=1.4, color=colour, label=words)
    axes.axhline(1.0, color=INK, alpha=0.5, linewidth=1, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("layer of the teacher, from images to logits")
    axes.set_ylabel("deviation of made images,\nthat of real ones being 1")
    axes.legend(fontsize=8, framealpha=0, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _finish(figure, axes, 0.0)
    return figure


def curves(series: Sequence[tuple[str, Sequence[float], Sequence[float]]], label: str) -> Any:
    """A figure of losses against epochs, ``(name, x, y)`` each, and a key below."""
    from matplotlib import colormaps

    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    columns = key_lines([name for name, _, _ in series[:MOST_LABELS]])
    foot = key_height([name for name, _, _ in series[:MOST_LABELS]])
    figure, axes = _blank(3.6, foot)
    for number, (name, x, y) in enumerate(series):
        style = ("-", "--", ":", "-.")[number // len(colours) % 4] + ("o" if len(x) == 1 else "")
        axes.plot(x, y, style, label=name, linewidth=1.2, color=colours[number % len(colours)])
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.ticklabel_format(useOffset=False)
    _finish(figure, axes, foot)
    if series:
        handles = axes.get_legend_handles_labels()[0][:MOST_LABELS]
        legend = figure.legend(
            handles, [entry for column in columns for entry in column], fontsize=KEY_SIZE, framealpha=0, labelcolor=INK,
            loc="lower left", ncols=len(columns), labelspacing=0.3, borderpad=0.2, handlelength=1.6,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _blank(height: float, foot: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height + foot))
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _finish(figure: Any, axes: Any, foot: float, right: float = 1.0) -> None:
    axes.grid(True, alpha=0.2, color=INK)
    _ink(axes)
    figure.tight_layout(rect=(0, foot / figure.get_size_inches()[1], right, 1))


def _ink(axes: Any) -> None:
    axes.tick_params(colors=INK, which="both")
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for spine in axes.spines.values():
        spine.set_color(INK)


def svg(figure: Any) -> str:
    """The figure as SVG without a size, the same bytes each time, in the colours of the page that it stands in."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": "dfkd", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn[drawn.index("<svg") :], flags=re.S)
    return drawn.replace(INK, "currentColor")


def for_papers(svg: str) -> str:
    """The same drawing in black."""
    return svg.replace("currentColor", "#000000")


def png(figure: Any) -> bytes:
    """The figure as PNG on white, 200 dots per inch."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return content.getvalue()
