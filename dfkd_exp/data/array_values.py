"""The values of arrays as pixels: in what range they are, and that none is missing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dfkd_exp.errors import DfkdError

BYTES = 255.0
AT_ONCE = 2**22
"""Numbers that are converted at once."""
DARK = 16
"""Bytes whose largest is below it are hardly of 0 to 255."""


class Chosen:
    """Some ``rows`` of an array, ascending, each read when it is asked for: the array may be mapped, and larger than memory."""

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self._array, self._rows = array, rows
        self.dtype, self.ndim = array.dtype, array.ndim
        self.shape = (len(rows), *array.shape[1:])
        self.size = math.prod(self.shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: int | slice | list[int]) -> np.ndarray:
        return self._array[self._rows[which]]


Values = np.ndarray | Chosen
"""Examples ``[N, …]``, in memory or not."""


@dataclass(frozen=True)
class Range:
    """What values are between, ``low[C]`` and ``high[C]``, per channel or feature; whether that was ``measured``; and what is said."""

    low: np.ndarray
    high: np.ndarray
    measured: bool
    said: str
    scaled: bool
    """Whether networks take them as 0 to 1: bytes, and whole numbers that are no table's; else as they are."""

    @classmethod
    def of(cls, array: Values, wanted: list[float]) -> Range:
        """Of training examples ``array[N, C, …]``: the ``wanted`` one, of bytes 0 to 255, and else what they say."""
        channels = array.shape[1]
        low, high = observed(array)
        scaled = array.dtype == np.uint8 or (array.dtype.kind in "biu" and array.ndim > 2)
        if wanted:
            pairs = np.array(wanted, float).reshape(-1, 2)
            ends = np.broadcast_to(pairs, (channels, 2)).T if len(pairs) in (1, channels) else None
            if ends is None:
                raise DfkdError(
                    f"data.range has {len(pairs)} pairs, and there are {channels} channels; give one, or one for each"
                )
            said = f"values from {_short(ends[0])} to {_short(ends[1])}, as data.range says"
            return cls(ends[0].copy(), ends[1].copy(), False, said, scaled)
        if array.dtype == np.uint8:
            dark = f"; their largest is {int(high.max())}, which is all but black: set data.range=[0,{int(high.max())}]"
            said = "bytes, 0 to 255" + (dark if high.max() < DARK else "")
            return cls(np.zeros(channels), np.full(channels, BYTES), False, said, scaled)
        lowest, highest = low.min(), high.max()
        for least, most in (
            (0.0, 1.0),
            (-1.0, 1.0),
        ):  # of what is scaled already, but for tables, whose features differ
            if array.ndim > 2 and lowest >= least and 0.5 < highest <= most:
                ends = np.full((2, channels), [[least], [most]])
                return cls(ends[0], ends[1], True, f"values within {least:g} and {most:g}", scaled)
        per = "per feature" if array.ndim == 2 else "per channel"
        said = f"values from {_short(low)} to {_short(high)}, measured on the training examples {per} (a release tells them)"
        if len(same := np.flatnonzero(high == low)) and array.ndim == 2:
            which = ", ".join(map(str, same[:3])) + ", …" * (len(same) > 3)
            said += f"; {len(same)} of the features ({which}, from 0) never vary, and have any value in what is made: leave them out"
        return cls(low, np.where(high > low, high, low + 1), True, said, scaled)

    def pixels(self, array: np.ndarray) -> Tensor:
        """Values ``[N, C, …]`` as pixels, float32, in [0, 1] where they are in range."""
        space = (1,) * (array.ndim - 2)
        low, high = self.low.reshape(-1, *space), self.high.reshape(-1, *space)
        return torch.from_numpy(np.ascontiguousarray((array - low) / (high - low), np.float32))


def as_tensor(array: Values) -> Tensor:
    """A view of bytes that perhaps nobody may write to, as those of a file; of some of its rows a copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch has no read-only tensors
        return torch.from_numpy(array[:])


def in_parts(array: Values) -> Iterator[np.ndarray]:
    """Some rows at a time: what is mapped may be larger than memory."""
    step = max(1, AT_ONCE * len(array) // max(1, array.size))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def require_numbers(array: np.ndarray, name: str, features: list[str]) -> None:
    """Raise DfkdError, which says where, unless ``array[N, …]`` called ``name`` are numbers, none missing or infinite; ``features``: names
    of a table's columns, if they are known."""
    if array.dtype.kind not in "biuf":
        raise DfkdError(f"{name} is of type {array.dtype}, not of numbers; write it as x.astype('float32')")
    if array.dtype.kind != "f":
        return
    done = 0
    for part in in_parts(array):
        if not (fine := np.isfinite(part)).all():
            first = np.argwhere(~fine)[0]
            place = [done + int(first[0]), *first[1:].tolist()]
            column = f", column {features[first[1]]}," if array.ndim == 2 and len(features) == array.shape[1] else ""
            raise DfkdError(
                f"{name}{place}{column} is {part[tuple(first)]}, and {_num_incomplete(array)} of {len(array):,} examples have missing or "
                "infinite values; fill them, or leave these examples out"
            )
        done += len(part)


def observed(array: Values) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest value of ``array[N, C, …]`` per channel."""
    across = _across(array)
    ends = [(part.min(across), part.max(across)) for part in in_parts(array)]
    return np.min([low for low, _ in ends], 0).astype(float), np.max([high for _, high in ends], 0).astype(float)


def mean_and_std(array: Values) -> tuple[np.ndarray, np.ndarray]:
    """Per channel of ``array[N, C, …]``; a deviation of 1 where all are alike."""
    across = _across(array)
    count = array.size // array.shape[1]
    mean = sum(part.sum(across, dtype=float) for part in in_parts(array)) / count
    space = (1,) * (array.ndim - 2)
    squares = sum(((part - mean.reshape(-1, *space)) ** 2).sum(across) for part in in_parts(array))
    std = np.sqrt(squares / count)
    return mean, np.where(std > 0, std, 1.0)


def _across(array: Values) -> tuple[int, ...]:
    return tuple(axis for axis in range(array.ndim) if axis != 1)


def _num_incomplete(array: np.ndarray) -> str:
    across = tuple(range(1, array.ndim))
    return f"{sum(int((~np.isfinite(part)).any(across).sum()) for part in in_parts(array)):,}"


def _short(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values[:3])
    return f"{shown}, …" if len(values) > 3 else shown
