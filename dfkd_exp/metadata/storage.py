"""How the numbers of metadata are stored: bytes are part of the comparison."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch
from torch import Tensor

from dfkd_exp.errors import DfkdError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}
STORAGE_OF = {dtype: storage for storage, dtype in DTYPES.items()}
ROWS, COLUMNS = EXPONENTS = (".row_exponents", ".column_exponents")
"""Endings of the names of what an int8 tensor's whole numbers are multiplied by."""


def encode(name: str, values: Tensor, storage: str) -> dict[str, Tensor]:
    """The tensors that stand for float32 ``values[..., D]`` in the file. Raises DfkdError where a number does not fit.

    int8: whole numbers from -127 to 127, times a power of two for each row of the last dimension, ``[..., 1]``, and one for each of its
    columns, ``[D]``: a unit's numbers are as exact as its own size asks, beside units that are a thousand times as large. Reading and
    writing again changes nothing. Source: the Open Compute Project's microscaling formats (2023), for blocks that are rows and columns.

    In int8 and fp16 a variance is stored as its root, which has half the range.
    """
    values = values.sqrt() if _is_root(name, storage) else values
    if storage != "int8":
        stored = values.to(DTYPES[storage])
        if not stored.isfinite().all() and values.isfinite().all():
            raise DfkdError(
                f"metadata.storage={storage} cannot hold {name}'s largest value, {values.abs().max():g}; choose bf16"
            )
        return {name: stored}
    if values.dim() < 2:
        raise DfkdError(f"metadata.storage=int8 is for tensors of rows, and {name} has the shape {list(values.shape)}")
    columns = _exponents(values.abs().flatten(0, -2).amax(0))
    values = torch.ldexp(values, -columns)
    rows = _exponents(values.abs().amax(-1, keepdim=True))
    whole = (torch.ldexp(values, -rows) * 128).round().clamp(-127, 127)
    rows = rows.where(whole.any(-1, keepdim=True), 0)
    return {name: whole.to(torch.int8), name + ROWS: rows, name + COLUMNS: columns}


def decode(name: str, stored: dict[str, Tensor]) -> Tensor:
    """float32 values of what `encode` made, from all of a summary's tensors. Raises ValueError where its parts do not fit."""
    values = stored[name].float()
    if stored[name].dtype == torch.int8:
        rows, columns = stored[name + ROWS], stored[name + COLUMNS]
        shape = values.shape
        if not shape or (rows.shape, columns.shape) != ((*shape[:-1], 1), shape[-1:]):
            raise ValueError(f"the exponents of {name} are not of its shape, {list(shape)}")
        values = torch.ldexp(torch.ldexp(values / 128, columns), rows)
    return values.square() if _is_root(name, STORAGE_OF.get(stored[name].dtype, "")) else values


def _exponents(largest: Tensor) -> Tensor:
    """The smallest e, int8, of which 2^e is above each magnitude; 0 for zero. A power of two is then a float32 number, too."""
    return torch.frexp(largest).exponent.clamp(-126, 127).to(torch.int8)


def rounded(name: str, values: Tensor, storage: str) -> Tensor:
    """``values`` as they will be read back; what is no finite number, which whole ones cannot say, as it is."""
    return decode(name, encode(name, values, storage)).where(values.isfinite(), values)


def layout(name: str, dtype: torch.dtype, shape: list[int], storage: str) -> dict[str, tuple[torch.dtype, list[int]]]:
    """Types and shapes of what `encode` makes of ``shape``; whole numbers, as the indices are, stay as they are."""
    if not dtype.is_floating_point:
        return {name: (dtype, shape)}
    stored = {name: (DTYPES[storage], shape)}
    exponents = {name + ROWS: (torch.int8, [*shape[:-1], 1]), name + COLUMNS: (torch.int8, shape[-1:])}
    return stored | exponents if storage == "int8" else stored


def num_bytes(shapes: Iterable[list[int]], storage: str) -> int:
    """Bytes of what `encode` makes of floating numbers in such ``shapes``."""
    parts = (part for shape in shapes for part in layout("", torch.float32, shape, storage).values())
    return sum(prod(shape) * dtype.itemsize for dtype, shape in parts)


def _is_root(name: str, storage: str) -> bool:
    return storage in ("int8", "fp16") and name.rpartition(".")[2] == "variance"
