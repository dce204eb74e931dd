"""Which axis of an array is which: features, channels or space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfkd_exp.inputs import noun

if TYPE_CHECKING:
    import numpy as np

LAYOUTS = ("F", "L", "CL", "LC", "HW", "CHW", "HWC", "DHW", "CDHW", "DHWC")
"""The axes of one example: features; length, channels; height and width; depth."""
FEW, MANY = 4, 4
"""Channels of most images, at most; and how many times longer than the channels' another axis of a series is."""


def guessed_layout(shape: tuple[int, ...], is_bytes: bool) -> str | None:
    """What the axes of examples of ``shape`` are, most probably; None if that cannot be told."""
    if len(shape) == 1:
        return "F"
    if len(shape) == 2:
        short, long = sorted(shape)
        if long >= MANY * short and (not is_bytes or short < FEW):
            return "CL" if shape[0] == short else "LC"
        return "HW"
    first, last = shape[0], shape[-1]
    if len(shape) == 3:
        if min(first, last) <= FEW:
            return None if max(first, last) <= FEW else ("CHW" if first <= FEW else "HWC")
        middle = shape[1]
        if 2 * last <= min(first, middle):
            return "HWC"
        return "CHW" if 2 * first <= min(last, middle) else "DHW"
    if len(shape) == 4 and min(first, last) <= FEW < max(first, last):
        return "CDHW" if first <= FEW else "DHWC"
    return None


def channels_first(array: np.ndarray, layout: str) -> np.ndarray:
    """``array[N, …]`` of a ``layout`` as ``[N, features]`` or ``[N, channels, *space]``: a view."""
    import numpy as np

    if "C" in layout:
        return np.moveaxis(array, 1 + layout.index("C"), 1)
    return array if layout == "F" else array[:, None]


def in_words(layout: str, shape: tuple[int, ...]) -> str:
    """What examples of a layout, ``[C, …]`` by then, are."""
    if layout == "F":
        return f"a table of {shape[0]} features"
    sizes = "x".join(map(str, shape[1:]))
    return f"{noun(shape)} of {shape[0]} channel{'s' * (shape[0] > 1)} and {sizes} values (layout {layout})"
