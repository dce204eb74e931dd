"""The lower axis of a drawing: bytes or seconds, of which some may be zero, and others of several orders of magnitude."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ROOM_OF_ZERO = 0.5
"""On a logarithmic axis, between zero and the smallest other value, in tenfolds."""
ROOM_BESIDE_ZERO = 0.4
"""On another axis, for what is at zero, in parts of the largest value."""
LANE, NEAR = 0.35, 0.06
"""How far from one another points at zero stand at most, in parts of the room; and how near, in parts of the other axis, they are when they
do not stand above one another."""


def _several_tenfolds(positive: Sequence[float]) -> bool:
    return bool(positive) and max(positive) > 10 * min(positive)


def _room(values: Sequence[float]) -> float:
    """For what is at zero, in the unit of the values; none if nothing else is there."""
    positive = [value for value in values if value > 0]
    if _several_tenfolds(positive):
        return min(positive)
    return ROOM_BESIDE_ZERO * max(positive, default=0.0)


def beside_zero(points: Sequence[tuple[float, float]]) -> list[float]:
    """Where the points stand on the lower axis: those at zero that would lie on one another beside one another, below zero; the highest of
    them at zero."""
    heights = [y for _, y in points]
    apart = NEAR * (max(heights) - min(heights)) if heights else 0.0
    lanes: list[float] = []
    """The height of the lowest point of each so far."""
    places = {}
    for number in sorted((n for n, (x, _) in enumerate(points) if x == 0), key=lambda n: -heights[n]):
        lane = next((n for n, lowest in enumerate(lanes) if lowest - heights[number] > apart), len(lanes))
        lanes[lane : lane + 1] = [heights[number]]
        places[number] = lane
    step = min(LANE, 1 / max(1, len(lanes) - 1)) * _room([x for x, _ in points])
    return [-places[number] * step if places.get(number) else x for number, (x, _) in enumerate(points)]


def scale(values: Sequence[float], axes: Any) -> None:
    """A logarithmic axis where the values have several orders of magnitude, with ticks that are few enough to be read: 20k, 5M; what is
    zero stands at its left end, in a shaded band if it is beside zero."""
    from matplotlib.ticker import EngFormatter, FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

    positive, room = [value for value in values if value > 0], _room(values)
    if _several_tenfolds(positive):
        smallest, largest = min(positive), max(positive)
        ticks = LogLocator(subs=(1, 2, 5) if largest < 2_000 * smallest else (1,))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticks)
        if len(positive) < len(values):
            axes.set_xscale("symlog", linthresh=smallest, linscale=ROOM_OF_ZERO)
            shown = [tick for tick in ticks.tick_values(smallest, largest) if smallest <= tick <= 2 * largest]
            axes.xaxis.set_major_locator(FixedLocator([0, *shown]))
            axes.xaxis.minorticks_off()
            axes.set_xlim(left=min(values) - 0.2 * room)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif min(values, default=0) < 0:
        axes.xaxis.set_major_locator(FixedLocator([tick for tick in axes.get_xticks() if tick >= 0]))
        axes.set_xlim(left=min(values) - 0.2 * room)
    if min(values, default=0) < 0:
        axes.axvspan(axes.get_xlim()[0], 0.2 * room, color="#888888", alpha=0.12, linewidth=0)
    if values and max(values) >= 1_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
