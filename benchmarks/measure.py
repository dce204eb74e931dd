"""Measuring: rates side by side, the machine's matrix-multiply rate, and the operations that a piece of work needs."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from dfkd_exp.reconstruction.engine.form import DTYPES

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}


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
        return [self.name, f"{_brief(self.ours)} {self.unit}", _brief(self.reference), ratio, self.of_limit, self.how]


def _brief(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


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


def seconds_per_step(work: Callable[[Callable[..., None]], object], steps: int) -> float:
    """Seconds per step of a loop that calls the ``on_step`` it is given in each of ``steps`` steps: from the first call to
    the last, so that what is done once, before the loop and after it, does not count where steps are few."""
    times: list[float] = []
    done = 0

    def on_step(*_: object) -> None:
        nonlocal done
        done += 1
        if done in (1, steps):  # to wait for the device at each would slow it down
            synchronise()
            times.append(time.perf_counter())

    work(on_step)
    return (times[1] - times[0]) / (steps - 1)


def side_by_side(
    *works: Callable[..., object], clock: Callable[[Callable[..., object]], float] = seconds, rounds: int = 5
) -> list[float]:
    """Median of what ``clock`` says of each, in turns after one round to warm up, so that the machine's moods fall on all alike."""
    for work in works:
        clock(work)
    taken = [[clock(work) for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def matmul_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a square matrix product: the best of several."""
    side = MATRIX_SIDE[DEVICE.type]
    left, right = (torch.randn(side, side, device=DEVICE).to(dtype) for _ in range(2))
    left @ right
    return 2 * side**3 / min(seconds(lambda: left @ right) for _ in range(7))


def of_matmul_rate(operations_per_second: float, *precisions: str) -> str:
    """``operations_per_second`` as a share of what a matrix product reaches, measured now, in each of the precisions."""
    return ", ".join(
        f"{operations_per_second / matmul_rate(DTYPES[precision]):.0%} of {precision}"
        for precision in dict.fromkeys(precisions)
    )


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
