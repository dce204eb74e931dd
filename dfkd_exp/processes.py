"""Processes that are started for a sweep or a run stop when the one that started them is gone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping

PARENT = "DFKD_PARENT"
"""Set for processes that a sweep, or a run of several processes, starts: the one that is to outlive them."""
SECONDS_TO_STOP = 60.0


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
