"""Processes that are started for a sweep or a run: quickly, and none goes on when the one that started it is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PARENT = "DFKD_PARENT"
"""Set for processes that a sweep, or a run of several processes, starts: the one that is to outlive them."""
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


def start(
    main: Callable[[], Any], arguments: Sequence[str], variables: Mapping[str, str], errors: Path, threads: int
) -> BaseProcess:
    """A process of its own that calls ``main`` with ``arguments`` as its command line, and is interrupted when this one is gone.

    It finds ``variables`` in its environment, says nothing, and writes errors to ``errors``. On Linux it is a copy of a process that has
    imported what takes long, once for all that are started; elsewhere it imports for itself. OSError if it cannot be started.
    """
    copies = sys.platform == "linux"
    context: Any = multiprocessing.get_context("forkserver" if copies else "spawn")
    if copies:
        context.set_forkserver_preload(list(IMPORTED_ONCE))
    errors.touch()
    process = context.Process(target=_become, args=(main, list(arguments), dict(variables), errors, threads))
    try:
        with environment({"OMP_NUM_THREADS": str(threads)}):  # read when torch is loaded
            process.start()
    except EOFError as error:  # the process that makes the copies has died
        raise OSError("its process ended as it began") from error
    return process


def _become(
    main: Callable[[], Any], arguments: list[str], variables: dict[str, str], errors: Path, threads: int
) -> None:
    os.setsid()  # Ctrl-C in a terminal reaches the sweep alone, which then interrupts its jobs, once
    os.environ.clear()
    os.environ.update({**variables, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)})
    os.environ[PARENT] = str(os.getppid())
    with open(os.devnull, "wb") as nowhere, open(errors, "wb") as said:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(said.fileno(), 2)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    sys.argv = ["dfkd", *arguments]
    main()


def with_parent(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is to stop when this one is gone."""
    return {**environment, PARENT: str(os.getpid())}


def stop_without_parent() -> None:
    """Interrupt this process, as Ctrl-C would, when the one that started it has died, so that nobody works for a sweep that is gone."""
    parent = os.environ.get(PARENT)
    if parent is None or not hasattr(os, "getppid"):
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(SECONDS_TO_STOP)  # unless it hangs in a call that cannot be interrupted
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
