"""Whether training and test examples are in the same units, by their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dfkd_exp.data.array_values import Values

SOME_EXAMPLES, SOME_VALUES = 500, 2000
"""Examples of a part, and values of each and of each channel, by which its units are told."""
ENOUGH = 30
"""Examples whose least and largest value say where the others' are."""
FAR, BELOW_ZERO = 3.0, 0.25
"""Widths of all values: so far beyond them, and so far below zero where they are not, is no value in the same units but an outlier."""


def other_units(train: Values, test: Values) -> str:
    """What is seen of training and test examples ``[N, C, …]`` that are in different units; nothing if they may be in the same.

    They are in others where a tenth of one part's values are far beyond all of the other's, or below zero and no others are, in at least
    half of the channels: outliers, darker images, other shares of the classes and features that drift are ordinary."""
    parts = [_some_values(part) for part in (train, test)]
    ends = [(values.min(1), values.max(1)) for values in parts]
    inner = [np.quantile(values, (0.1, 0.9), axis=1) for values in parts]
    vary = np.all([low < high for low, high in ends], axis=0)
    apart = np.zeros_like(vary)
    for (low, high), (least, most), part in zip(ends, reversed(inner), (train, test), strict=True):
        if len(part) >= ENOUGH:
            width = high - low
            apart |= vary & (np.maximum(low - least, most - high) > FAR * width)
            apart |= vary & (low >= 0) & (least < -BELOW_ZERO * width)
    if not apart.any() or 2 * apart.sum() < vary.sum():
        return ""
    channel = int(apart.argmax())
    (low, high), (least, most) = ((float(a[channel]), float(b[channel])) for a, b in ends)
    where = f" of {'feature' if train.ndim == 2 else 'channel'} {channel} (from 0)" if train.shape[1] > 1 else ""
    return f"training values{where} are from {low:.4g} to {high:.4g}, and test values from {least:.4g} to {most:.4g}"


def _some_values(array: Values) -> np.ndarray:
    """Some of the values of each channel, ``[C, …]``, from all over ``array[N, C, …]``."""
    every = max(1, len(array) // SOME_EXAMPLES)
    of_each = max(1, array[0].size // array.shape[1] // SOME_VALUES) | 1  # odd: not the same column of every row
    some = [array[row].reshape(array.shape[1], -1)[:, ::of_each] for row in range(0, len(array), every)]
    return np.concatenate(some, axis=1).astype(float)
