"""How a command ends that is told to stop, by SIGTERM or Ctrl-C: at any moment, within seconds, with what it has started and one message.

An exception alone would not do. It is lost where a library takes it for a failure of its own, as some imports do, and waits while one
call computes for minutes; so a thread hears of the signal too, and ends the process when it has had its time.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dfkd_exp.processes import SECONDS_TO_STOP, kill_started
from dfkd_exp.ranks import LAUNCHED, ranks_of_process

SAID = {signal.SIGTERM: "stopped by SIGTERM", signal.SIGINT: "interrupted"}
"""The signals, and what is said of them."""

_told: int | None = None
"""The first signal."""
_raised = _said = False
_saying = threading.Lock()
SECONDS_TO_SAY = 0.5
"""What a line may take that is being written when the process is ended; where nobody reads it would take for ever."""
_before: dict[int, Any] = {}
"""What handled the signals before; empty while this does not."""


class Stopped(BaseException):
    """Raised wherever the command is when it is told to stop. No Exception, which might be handled as a failure; and no
    KeyboardInterrupt, to which Lightning has an answer, and an exit code, of its own."""


def check() -> None:
    """Raise Stopped if the command has been told to stop: what was raised for that may come back as another error."""
    if _told is not None:
        raise Stopped


@contextmanager
def at_signals() -> Iterator[None]:
    """Within the context, SIGTERM and Ctrl-C end the process: Stopped is raised in it, it says so in one line and leaves with exit code
    143 or 130; and if it has not left in a few seconds, whatever it is doing, it is ended.

    A SIGINT that whoever started the process has it ignore, as ``nohup … &`` does, stays ignored. Within another such context this does
    nothing, and so it does in other threads than the first, where Python has no signals.
    """
    global _told, _raised, _said
    if _before or threading.current_thread() is not threading.main_thread():
        yield
        return
    _told, _raised, _said = None, False, False
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    for number in SAID:
        _before[number] = signal.getsignal(number)
        if number == signal.SIGTERM or _before[number] is not signal.SIG_IGN:
            signal.signal(number, _tell)
    waker = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(ear,), daemon=True).start()
    try:
        yield
        check()
    except BaseException as error:
        told = _told or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
        if told is None:
            raise
        kill_started()
        with _saying:
            _say(told)
        sys.exit(128 + told)
    finally:
        if _told is None:  # else it is watched to its very end
            signal.set_wakeup_fd(waker)
            for caught, handler in _before.items():
                signal.signal(caught, handler)
            _before.clear()
            mouth.close()


def _tell(number: int, _: Any) -> None:
    global _told, _raised
    _told = _told or number  # the thread may have heard of it first
    if not _raised:  # a second signal would disturb the leaving
        _raised = True
        raise Stopped


def _watch(ear: socket.socket) -> None:
    """Hear of a signal though the first thread may be busy, and end the process in time. Python writes the signal's number to the other
    end when it arrives, whoever handles it."""
    global _told
    with ear:
        while heard := ear.recv(1):
            if heard[0] in SAID:
                began = _told = _told or heard[0]
                time.sleep(SECONDS_TO_STOP)
                kill_started()
                _saying.acquire(timeout=SECONDS_TO_SAY)
                _say(began, os.write)
                os._exit(128 + began)


def _say(number: int, write: Any = None) -> None:
    """One line on stderr, once, by one of a run's processes. ``write``: to a file descriptor, where Python's own may be locked."""
    global _said
    if _said or LAUNCHED in os.environ or not ranks_of_process().first:
        return
    _said = True
    line = f"error: {SAID[signal.Signals(number)]}; the same command continues where it was\n"
    with suppress(OSError, ValueError):  # nobody reads it
        if write is None:
            print(line, end="", file=sys.stderr, flush=True)
        elif select.select([], [2], [], 0)[1]:
            write(2, line.encode())


def _forget() -> None:
    """In a fork of the process: its signals are not this process's."""
    if _before:
        signal.set_wakeup_fd(-1)
        for number, handler in _before.items():
            signal.signal(number, handler)
        _before.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
