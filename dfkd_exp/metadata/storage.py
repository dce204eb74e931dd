"""How the numbers of metadata are stored: bytes are part of the comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from dfkd_exp.errors import DfkdError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}
SCALE = ".scale"
"""Ending of the name of an int8 tensor's scales."""


def encode(name: str, values: Tensor, storage: str) -> dict[str, Tensor]:
    """The tensors that stand for float32 ``values[..., D]`` in the file. Raises DfkdError where a number does not fit.

    int8: whole numbers from -127 to 127 and a float32 scale ``[..., 1]`` for each row of the last dimension, of 12 significant bits
    so that reading and writing again changes nothing. A variance is stored as its root, which has half the range.
    """
    if storage != "int8":
        stored = values.to(DTYPES[storage])
        if not stored.isfinite().all() and values.isfinite().all():
            raise DfkdError(
                f"metadata.storage={storage} cannot hold {name}'s largest value, {values.abs().max():g}; choose bf16"
            )
        return {name: stored}
    values = values.sqrt() if _is_variance(name) else values
    scale = values.abs().amax(-1, keepdim=True) / 127
    mantissa, exponent = torch.frexp(scale)
    scale = torch.ldexp((mantissa * 4096).ceil() / 4096, exponent)
    whole = (values / scale.where(scale > 0, 1)).round().clamp(-127, 127)
    return {name: whole.to(torch.int8), name + SCALE: scale}


def decode(name: str, stored: dict[str, Tensor]) -> Tensor:
    """float32 values of what `encode` made, from all of a summary's tensors."""
    values = stored[name].float()
    if stored[name].dtype != torch.int8:
        return values
    values = values * stored[name + SCALE]
    return values.square() if _is_variance(name) else values


def rounded(name: str, values: Tensor, storage: str) -> Tensor:
    """``values`` as they will be read back."""
    return decode(name, encode(name, values, storage))


def layout(name: str, dtype: torch.dtype, shape: list[int], storage: str) -> dict[str, tuple[torch.dtype, list[int]]]:
    """Types and shapes of what `encode` makes of ``shape``; whole numbers, as the indices are, stay as they are."""
    if not dtype.is_floating_point:
        return {name: (dtype, shape)}
    stored = {name: (DTYPES[storage], shape)}
    return stored | {name + SCALE: (torch.float32, [*shape[:-1], 1])} if storage == "int8" else stored


def _is_variance(name: str) -> bool:
    return name.rpartition(".")[2] == "variance"
