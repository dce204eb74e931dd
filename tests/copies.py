"""Python in a process of its own, which is a copy of one that has imported what takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dfkd_exp.processes import start_method


class Ended(NamedTuple):
    """Exit code, and what was printed."""

    returncode: int | None
    stdout: str
    stderr: str


class Copy:
    """``python -c CODE ARGUMENTS`` in a ``folder``, with these variables besides its own; it has begun."""

    def __init__(self, code: str, arguments: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None):
        self.said = Path(tempfile.mkdtemp(dir=folder))
        context = multiprocessing.get_context(start_method())
        self.process = context.Process(
            target=_run, args=(code, list(arguments), folder, dict(variables or {}), self.said)
        )
        self.process.start()

    def ended(self, seconds: float = 120) -> Ended:
        """Wait for its end; it is killed when it takes too long."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        return Ended(self.process.exitcode, *((self.said / name).read_text() for name in ("1", "2")))


def _run(code: str, arguments: list[str], folder: Path, variables: dict[str, str], said: Path) -> None:
    for descriptor in (1, 2):
        with open(said / str(descriptor), "wb") as file:
            os.dup2(file.fileno(), descriptor)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.chdir(folder)
    os.environ.update(variables)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "-c", "exec"), {"__name__": "__main__"})
