"""The file of a study, and what to do where something has damaged it: a line for each thing that a worker has said.

A worker that is killed while it writes leaves half a line, to which the next worker's line is joined. Nobody has read the half, so nothing
is lost when it is taken out; no more is what somebody else has put between the lines.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfkd_exp import console
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import regular_size, write_atomically

BEGIN = b'{"op_code":'
"""Of every line of a journal."""


def mend(path: Path) -> None:
    """Take out of a journal, if it is there, what no worker has written; a copy of it as it was is kept beside it.

    Call it while no other worker begins. Raises DfkdError, with file and line, for a journal that lacks something that was written.
    """
    if not os.path.lexists(path):
        return
    from optuna.storages.journal import JournalFileSymlinkLock

    new = f"move {path.name} away, or give the study a name of its own: hydra.sweeper.study=NAME"
    lock = JournalFileSymlinkLock(str(path))
    try:
        regular_size(path)
        lock.acquire()  # of those who write
        try:
            content = path.read_bytes()
            lines, wrong = _sound_lines(content)
            if (number := _not_understood(lines)) is not None:
                raise DfkdError(f"{path}, line {number}: something that it needs is lost; {new}")
            if not wrong:
                return
            copy = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
            shutil.copyfile(path, copy)
            write_atomically(path, b"".join(lines.values()))
        finally:
            lock.release()
    except (OSError, ValueError) as error:
        raise DfkdError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); {new}") from error
    console.warn(
        f"{path}, line {', '.join(map(str, wrong))}: not what a search writes; left out, and {copy} is the file as it was"
    )


def _sound_lines(content: bytes) -> tuple[dict[int, bytes], list[int]]:
    """What workers have written, by the numbers of the lines; and the numbers of the lines in which there is something else."""
    lines, wrong = {}, []
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        whole = line.endswith(b"\n") and _is_entry(line)
        if not whole:
            wrong.append(number)
        start = 0 if whole else line.find(BEGIN, 1)
        while not whole and start > 0 and not (whole := line.endswith(b"\n") and _is_entry(line[start:])):
            start = line.find(BEGIN, start + 1)  # after half a line
        if whole:
            lines[number] = line[start:]
    return lines, wrong


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and {"op_code", "worker_id"} <= entry.keys()


def _not_understood(lines: dict[int, bytes]) -> int | None:
    """The number of the first line with which Optuna can do nothing, or that is about a trial that is not there."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend

    class Given(BaseJournalBackend):
        def __init__(self) -> None:
            self.entries: list[dict[str, Any]] = []

        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            yield from self.entries[log_number_from:]

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            raise NotImplementedError

    entries = [json.loads(line) for line in lines.values()]
    backend = Given()
    storage = JournalStorage(backend)
    for number, entry in zip(lines, entries, strict=True):
        backend.entries.append(entry)
        try:
            storage.get_all_studies()
            if "trial_id" in entry:
                storage.get_trial(entry["trial_id"])
        except Exception:  # of whatever kind: it was not made for this
            return number
    return None
