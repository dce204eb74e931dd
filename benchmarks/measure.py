"""Measuring: rates side by side, the machine's matrix-multiply rate, and the operations that a piece of work needs."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def sync() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    sync()
    started = time.perf_counter()
    work()
    sync()
    return time.perf_counter() - started


def side_by_side(*works: Callable[[], object], rounds: int = 3) -> list[float]:
    """Median seconds of each, taken in turns after one round to warm up, so that the machine's moods fall on all alike."""
    for work in works:
        work()
    taken = [[seconds(work) for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def matmul_rate(dtype: torch.dtype, device: torch.device, size: int = 2048) -> float:
    """Floating-point operations per second of a square matrix product: the best of several."""
    size = size if device.type == "cpu" else 4 * size
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    left @ right
    best = min(seconds(lambda: left @ right) for _ in range(7))
    return 2 * size**3 / best


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def machine() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
