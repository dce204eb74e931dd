"""Labels at the points of a drawing, placed so that none lies on another or on a point; and a key below, where they are numbers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dfkd_exp.harmless import printable

GAP, MARKER, BAR = 2.0, 4.5, 3.5
"""In points: around a label; from a marker's middle to its edge; from an error bar's middle to the ends of its caps."""
SLACK = 1.03
"""How much wider a text may be at another resolution than where it is measured."""
NEAR = 12.0
"""In points: a label further from its point than this is joined to it by a line."""
RADII = (3, 7, 12, 18, 26, 36, 48, 62, 78, 96, 120, 150)
ANGLES = tuple(
    math.radians(degrees) for degrees in (45, 135, -45, -135, 90, -90, 0, 180, 22, 158, -22, -158, 67, 113, -67, -113)
)
KEY_SIZE, KEY_LINE, KEY_WIDTH = 7, 0.155, 118
"""The key's font, in points; the height of a line of it, in inches; and how many characters stand side by side in it."""


@dataclass(frozen=True)
class Box:
    """A rectangle in points of the drawing, from its lower left corner."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, other: Box) -> bool:
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.bottom <= self.bottom
            and self.top <= other.top
        )

    @classmethod
    def around(cls, x: float, y: float, half_width: float, half_height: float) -> Box:
        return cls(x - half_width, y - half_height, x + half_width, y + half_height)


def places(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], area: Box, bars: Sequence[Box] = ()
) -> list[Box] | None:
    """A box within ``area`` for a label at each of the ``points``, of its width and height; none meets another, a point, or a bar.

    The first free place, nearest first, in the order of the points: always the same for the same drawing. None if there is not room
    for all of them.
    """
    markers = [*(Box.around(x, y, MARKER, MARKER) for x, y in points), *bars]
    taken: list[Box] = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        for box in _candidates(x, y, width / 2 + GAP, height / 2 + GAP):
            if box.within(area) and not any(map(box.meets, markers)) and not any(map(box.meets, taken)):
                taken.append(box)
                break
        else:
            return None
    return taken


def _candidates(x: float, y: float, half_width: float, half_height: float) -> Iterator[Box]:
    for radius in RADII:
        for angle in ANGLES:
            across, up = math.cos(angle), math.sin(angle)
            # The label's near edge, not its middle, is as far away as the radius says.
            yield Box.around(
                x + across * radius + _sign(across) * (half_width + (MARKER if up == 0 else 0)),
                y + up * radius + _sign(up) * (half_height if abs(across) < 0.9 else 0), half_width, half_height,
            )  # fmt: skip


def spread(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> list[float]:
    """Middles of intervals of ``sizes`` between ``low`` and ``high``, which all fit in, each as near to where it is ``wanted`` as others
    let it: none overlap, and they are in the order of what was wanted. Least squares, by pooling adjacent violators."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[tuple[float, list[int]]] = []
    """The bottom of a stack of intervals that touch one another, less what lies below all of them, and which they are."""
    below, offsets = 0.0, {}
    for i in order:
        offsets[i] = below + sizes[i] / 2
        below += sizes[i]
        level, members = wanted[i] - offsets[i], [i]
        while pools and pools[-1][0] >= level:
            other, earlier = pools.pop()
            level = (level * len(members) + other * len(earlier)) / (len(members) + len(earlier))
            members = earlier + members
        pools.append((level, members))
    found = {i: min(max(level, low), high - below) + offsets[i] for level, members in pools for i in members}
    return [found[i] for i in range(len(wanted))]


def label_ends(
    axes: Any, ends: Sequence[tuple[float, float]], drafts: Sequence[Any], strokes: Sequence[tuple[Any, Any]], ink: str
) -> None:
    """Move the texts ``drafts`` into a column right of the axes, which must have their final place and limits, in the order of the heights
    of the ``ends`` that they are of, each joined to that height at the frame, in the colour and the style of its ``strokes``. A line to the
    end itself would cross other curves."""
    renderer, scale = axes.figure.canvas.get_renderer(), 72 / axes.figure.dpi
    frame = axes.get_window_extent(renderer)
    heights = [draft.get_window_extent(renderer).height * scale + GAP for draft in drafts]
    wanted = [float(axes.transData.transform(end)[1]) * scale for end in ends]
    middles = spread(wanted, heights, frame.y0 * scale, frame.y1 * scale)
    for height, draft, (colour, style), middle in zip(wanted, drafts, strokes, middles, strict=True):
        level, place = ((points / scale - frame.y0) / frame.height for points in (height, middle))
        outside = {"color": colour, "transform": axes.transAxes, "clip_on": False}
        axes.plot([1.0, 1.01, 1.05], [level, level, place], alpha=0.7, linewidth=0.8, **outside)
        axes.plot([1.05, 1.09], [place, place], linestyle=style, linewidth=1.6, **outside)
        draft.set(position=(1.10, place), transform=axes.transAxes, color=ink)


def _sign(value: float) -> int:
    return 0 if abs(value) < 0.2 else 1 if value > 0 else -1


def label_points(
    axes: Any,
    points: Sequence[tuple[float, float]],
    deviations: Sequence[float],
    texts: Sequence[str],
    colour: str,
    size: float,
) -> bool:
    """Write ``texts`` at ``points`` of the axes, which must have their final place and limits, beside their error bars if there is room
    for that; whether there was room at all."""
    figure, texts = axes.figure, [printable(text) for text in texts]
    renderer, scale = figure.canvas.get_renderer(), 72 / figure.dpi
    drafts = [axes.text(0, 0, text, fontsize=size, parse_math=False) for text in texts]
    sizes = [
        (SLACK * extent.width * scale, extent.height * scale)
        for extent in (d.get_window_extent(renderer) for d in drafts)
    ]
    for draft in drafts:
        draft.remove()

    def on_page(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transData.transform((x, y)) * scale
        return float(across), float(up)

    frame = axes.get_window_extent(renderer)
    area = Box(frame.x0 * scale, frame.y0 * scale, frame.x1 * scale, frame.y1 * scale)
    middles = [on_page(x, y) for x, y in points]
    ends = [(on_page(x, y - d), on_page(x, y + d)) for (x, y), d in zip(points, deviations, strict=True) if d]
    bars = [Box(low[0] - BAR, low[1], high[0] + BAR, high[1]) for low, high in ends]
    boxes = places(middles, sizes, area, bars) or places(middles, sizes, area)
    if boxes is None:
        return False
    for point, (x, y), text, box in zip(points, middles, texts, boxes, strict=True):
        offset = ((box.left + box.right) / 2 - x, (box.bottom + box.top) / 2 - y)
        nearest = math.hypot(max(box.left - x, x - box.right, 0), max(box.bottom - y, y - box.top, 0))
        line = {"arrowstyle": "-", "color": colour, "alpha": 0.35, "linewidth": 0.6, "shrinkA": 0, "shrinkB": MARKER}
        axes.annotate(
            text, point, xytext=offset, textcoords="offset points", ha="center", va="center", fontsize=size, color=colour,
            parse_math=False, arrowprops=line if nearest > NEAR else None,
        )  # fmt: skip
    return True


def key_lines(entries: Sequence[str]) -> list[list[str]]:
    """The entries of a key in columns, as many as are wide enough for the longest of them, read downwards."""
    short = [textwrap.shorten(printable(entry), KEY_WIDTH, placeholder=" …") for entry in entries]
    columns = max(1, min(3, KEY_WIDTH // (max(map(len, short), default=1) + 2)))
    rows = math.ceil(len(short) / columns)
    return [short[start : start + rows] for start in range(0, len(short), rows)] if short else []


def draw_key(figure: Any, entries: Sequence[str], colour: str) -> None:
    """The entries in columns at the foot of the figure, which `key_height` has left room for."""
    columns = key_lines(entries)
    height = figure.get_size_inches()[1]
    for number, column in enumerate(columns):
        for row, entry in enumerate(column):
            top = key_height(entries) - 0.06 - row * KEY_LINE
            figure.text(
                0.02 + 0.97 * number / len(columns),
                top / height,
                entry,
                fontsize=KEY_SIZE,
                color=colour,
                va="top",
                parse_math=False,
            )


def key_height(entries: Sequence[str]) -> float:
    """In inches."""
    return max(map(len, key_lines(entries)), default=0) * KEY_LINE + 0.12
