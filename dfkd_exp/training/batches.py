"""How many images go into each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def batches(rows: Tensor, size: int) -> list[Tensor]:
    """``rows`` in parts of ``size``, the last of which may be smaller. A last one of a single row is joined to the one before: from one
    image BatchNorm can take no variance, and left out it would be trained on less often than the others."""
    parts = list(rows.split(size))
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [rows[-size - 1 :]]
    return parts
