"""Processes that are started for a sweep or a run: quickly, and none goes on when the one that started it is gone."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

COMMAND = "dfkd_exp"
"""The module that is run as ``python -m`` would."""
SECONDS_TO_STOP = 3.0
"""What a process has to leave by itself when it is told to; it is ended then. Nothing is lost: files are written whole or not at all."""
IMPORTED_ONCE = ("torch", "pytorch_lightning", "hydra.main", "safetensors.torch")
"""What each process of a command needs and takes seconds to import. None of it looks for devices, or starts threads, when imported."""


MOST_THREADS = 1024
"""That a process is given, whatever is asked for."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt (malloc.h): how much freed memory is kept, and from how many bytes on something is none of what is kept."""
KEPT_BYTES = 2**30
"""What both are set to."""
MOST_OF_OLDER = 2**25
"""Bytes that an older glibc takes for the second of them: half of a heap's."""

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux tells those in a container how much of the processor they may use: microseconds in each so many, or ``max``."""

MEMORY = Path("/sys/fs/cgroup/memory.max")
"""And how many bytes of memory."""


def num_threads() -> int:
    """How many threads this command may keep busy: as OMP_NUM_THREADS says, or as many as it has cores, which SLURM, containers and
    taskset may have limited."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # it may be a list, of threads within threads
    if said.isdecimal() and int(said):
        return min(int(said), MOST_THREADS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if (task := os.environ.get("SLURM_CPUS_PER_TASK", "")).isdecimal():  # not every cluster binds tasks to cores
        cores = min(cores, int(task))
    with suppress(OSError, ValueError):
        share, period = (int(number) for number in QUOTA.read_text("utf-8").split())
        cores = min(cores, -(-share // period))
    return max(1, cores)


def machine_memory() -> int | None:
    """Bytes of memory that this command may use: the machine's, or what a container has of it; None where nobody says."""
    with suppress(OSError, ValueError, AttributeError):
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with suppress(OSError, ValueError):
            there = min(there, int(MEMORY.read_text("utf-8")))
        return there
    return None


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for what is asked for next, where it is glibc and nobody has told it otherwise (MALLOC_…,
    GLIBC_TUNABLES). It would give the memory of large tensors back each time, and the system would clear every page of it anew, which
    takes a part of each step of a convolutional net."""
    if any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with suppress(OSError, AttributeError):
        set_option = ctypes.CDLL("libc.so.6").mallopt
        # An older one refuses what is too much, and would then be left with less than what it finds by itself.
        if set_option(M_MMAP_THRESHOLD, KEPT_BYTES) or set_option(M_MMAP_THRESHOLD, MOST_OF_OLDER):
            set_option(M_TRIM_THRESHOLD, KEPT_BYTES)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Within the context, what is started finds ``values`` in its environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def start_method() -> str:
    """How Python is to start processes: on Linux as copies of one that has imported what takes long, which is started here if it is not
    there; elsewhere each imports for itself."""
    if sys.platform != "linux":
        return "spawn"
    from multiprocessing import forkserver, resource_tracker

    multiprocessing.set_forkserver_preload(list(IMPORTED_ONCE))
    # Ctrl-C in a terminal reaches it too, and would end it, with a traceback, while it imports. What starts blocked stays so.
    resource_tracker.ensure_running()  # first, since it unblocks what it has blocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return "forkserver"


def start(arguments: Sequence[str], variables: Mapping[str, str], errors: Path, threads: int) -> BaseProcess:
    """``dfkd ARGUMENTS`` as a process of its own, which is stopped when this one is gone.

    It finds ``variables`` in its environment, and nothing else; it says nothing, and writes errors to ``errors``. OSError if it cannot
    be started.
    """
    errors.touch()
    return begin(_alone, errors, COMMAND, list(arguments), dict(variables), threads)


def begin(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that has begun with ``target(*arguments)``, the last of which is the number of its threads. OSError if it cannot be
    started."""
    try:
        with environment({"OMP_NUM_THREADS": str(arguments[-1])}):  # read when torch is loaded
            context: Any = multiprocessing.get_context(start_method())
            process = context.Process(target=target, args=arguments)
            process.start()
    except EOFError as error:  # the process that makes the copies has died
        raise OSError("its process ended as it began") from error
    return process


def _alone(errors: Path, module: str, arguments: Sequence[str], variables: Mapping[str, str], threads: int) -> None:
    os.setsid()  # Ctrl-C in a terminal reaches the sweep alone, which then stops its jobs, once
    os.environ.clear()
    with open(os.devnull, "wb") as nowhere, open(errors, "wb") as said:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(said.fileno(), 2)
    call(module, arguments, variables, threads)


def call(module: str, arguments: Sequence[str], variables: Mapping[str, str], threads: int) -> None:
    """In a process that has been started: ``python -m MODULE ARGUMENTS`` with ``variables`` in its environment and so many threads. Signals
    reach it, though what it is a copy of was kept from them."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ.update({**variables, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)})
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def stop_without_parent() -> None:
    """Stop this process when the sweep or run that started it has died, so that nobody works for what is gone. By SIGTERM: what was
    started in the background of a script ignores SIGINT."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def stop(processes: Sequence[BaseProcess]) -> None:
    """Stop them all, and return when they have ended; those that have not by themselves in a few seconds are killed."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + SECONDS_TO_STOP
    for process in processes:
        process.join(max(0, until - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()


def kill_started() -> None:
    """Kill what this process has started and is still there, and what makes the copies, which may still be importing."""
    for process in multiprocessing.active_children():
        process.kill()
    if "multiprocessing.forkserver" in sys.modules:
        server = sys.modules["multiprocessing.forkserver"]._forkserver
        if (number := getattr(server, "_forkserver_pid", None)) is not None:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
