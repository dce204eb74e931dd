"""Measuring: rates side by side, the machine's matrix-multiply rate, and the operations that a piece of work needs."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Row:
    """One line of the table: a rate of ours, and of the reference, measured in turns."""

    name: str
    unit: str
    ours: float
    reference: float
    of_limit: str
    """Our floating-point operations over what a matrix product reaches in the same run, per dtype."""
    how: str

    @property
    def cells(self) -> list[str]:
        ratio = f"{self.ours / self.reference:.1f}x"
        return [self.name, f"{self.ours:,.0f} {self.unit}", f"{self.reference:,.0f}", ratio, self.of_limit, self.how]


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    synchronise()
    started = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - started


def side_by_side(*works: Callable[[], object], rounds: int = 5) -> list[float]:
    """Median seconds of each, taken in turns after one round to warm up, so that the machine's moods fall on all alike."""
    for work in works:
        work()
    taken = [[seconds(work) for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def matmul_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a square matrix product: the best of several."""
    size = 2048 if DEVICE.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
    left @ right
    return 2 * size**3 / min(seconds(lambda: left @ right) for _ in range(7))


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def machine() -> str:
    """What the figures were measured on."""
    name = (
        torch.cuda.get_device_name()
        if DEVICE.type == "cuda"
        else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    rates = ", ".join(
        f"{dtype} {matmul_rate(getattr(torch, dtype)) / 1e9:,.0f} GFLOP/s" for dtype in ("float32", "bfloat16")
    )
    return f"{name}, torch {torch.__version__}; matrix product: {rates}"
