"""What a phase costs, its peak memory, and on which machine."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class PeakMemory:
    """``num_bytes``: the most that was in use at once; of the GPU where one is used, else of the process, where pages of
    mapped image files count while the system keeps them."""

    num_bytes: int = 0


def machine(device: torch.device) -> str:
    """For people: the system, and the GPU or how many threads of the CPU are used."""
    used = f"{torch.get_num_threads()} CPU threads"
    if device.type == "cuda":
        used = torch.cuda.get_device_name(device)
    return f"{platform.system()} {platform.machine()}, {used}"


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure the peak within the context, and within those inside it. Where the system cannot reset it (not Linux), it is the process's
    so far."""
    peak = PeakMemory()
    for outer in _measured:
        outer.num_bytes = max(outer.num_bytes, _peak(device))
    _reset(device)
    _measured.append(peak)
    try:
        yield peak
    finally:
        for one in _measured:
            one.num_bytes = max(one.num_bytes, _peak(device))
        _measured.pop()


_measured: list[PeakMemory] = []
"""Those that are being measured, each inside the one before it."""


def _reset(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.init()  # else there is nothing to reset yet, which raises
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", "utf-8")  # 5: reset the high-water mark (man proc)


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _process_peak()


def _process_peak() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
