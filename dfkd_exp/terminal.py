"""What a command stands on: streams that may be closed, full, a pipe that nobody reads any more, or unable to show a letter; and a
working directory that may be gone."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

NOBODY_READS = 141
"""Exit code of a command whose reader has left, as a shell gives it (128 + SIGPIPE)."""


class _Output:
    """A standard stream. What it cannot encode it shows as an escape; where it cannot be written, the command ends: without a word if
    whoever read it has left, as in ``dfkd --help | head``, and else in one line."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        _to_nowhere(self._stream)
        if error.errno in (errno.EPIPE, errno.ECONNRESET):
            sys.exit(NOBODY_READS)
        print(f"error: standard output cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(1)


class _Errors(_Output):
    """Standard error: where it cannot be written, nobody can be told, and the exit code says it alone."""

    def _failed(self, error: OSError) -> None:
        _to_nowhere(self._stream)


def _to_nowhere(stream: Any) -> None:
    """What is still written to a stream, by its buffer too when Python ends, is thrown away."""
    with suppress(OSError, ValueError, io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


@contextmanager
def at_terminal() -> Iterator[None]:
    """Around a command: whatever its streams and its working directory are, it ends in one line, or does its work. Within another such
    context this does nothing."""
    if isinstance(sys.stdout, _Output):
        yield
        return
    _open_streams()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Output(sys.stdout), _Errors(sys.stderr)
    try:
        _require_folder()
        yield
    finally:
        try:
            sys.stderr.flush()
            sys.stdout.flush()
        finally:
            sys.stdout, sys.stderr = before


def _open_streams() -> None:
    """Give a process that was started without standard streams such as lead nowhere: the next file that it opens would be its output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for as long as the process lasts


def _require_folder() -> None:
    try:
        os.getcwd()
    except OSError:
        print("error: the working directory is not there any more; change to another folder", file=sys.stderr)
        sys.exit(2)
