"""Processes that are started for a sweep or a run: quickly, and none goes on when the one that started it is gone."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

COMMAND = "dfkd_exp"
"""The module that is run as ``python -m`` would."""
SECONDS_TO_STOP = 60.0
IMPORTED_ONCE = ("torch", "pytorch_lightning", "hydra.main", "safetensors.torch")
"""What each process of a command needs and takes seconds to import. None of it looks for devices, or starts threads, when imported."""


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
    """How Python is to start processes: on Linux as copies of one that has imported what takes long; elsewhere each imports for itself."""
    if sys.platform != "linux":
        return "spawn"
    multiprocessing.set_forkserver_preload(list(IMPORTED_ONCE))
    return "forkserver"


def start(arguments: Sequence[str], variables: Mapping[str, str], errors: Path, threads: int) -> BaseProcess:
    """``dfkd ARGUMENTS`` as a process of its own, which is interrupted when this one is gone.

    It finds ``variables`` in its environment, and nothing else; it says nothing, and writes errors to ``errors``. OSError if it cannot
    be started.
    """
    context: Any = multiprocessing.get_context(start_method())
    errors.touch()
    begun = context.Event()
    process = context.Process(target=_alone, args=(begun, errors, COMMAND, list(arguments), dict(variables), threads))
    try:
        with environment({"OMP_NUM_THREADS": str(threads)}):  # read when torch is loaded
            process.start()
    except EOFError as error:  # the process that makes the copies has died
        raise OSError("its process ended as it began") from error
    while not begun.wait(0.1) and process.is_alive():  # until then it does not hear an interrupt
        pass
    return process


def _alone(
    begun: Event, errors: Path, module: str, arguments: Sequence[str], variables: Mapping[str, str], threads: int
) -> None:
    os.setsid()  # Ctrl-C in a terminal reaches the sweep alone, which then interrupts its jobs, once
    begun.set()
    os.environ.clear()
    with open(os.devnull, "wb") as nowhere, open(errors, "wb") as said:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(said.fileno(), 2)
    call(module, arguments, variables, threads)


def call(module: str, arguments: Sequence[str], variables: Mapping[str, str], threads: int) -> None:
    """In a process that has been started: ``python -m MODULE ARGUMENTS`` with ``variables`` in its environment and so many threads."""
    os.environ.update({**variables, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)})
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def stop_without_parent() -> None:
    """Interrupt this process, as Ctrl-C would, when the sweep or run that started it has died, so that nobody works for what is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(SECONDS_TO_STOP)  # unless it hangs in a call that cannot be interrupted
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
