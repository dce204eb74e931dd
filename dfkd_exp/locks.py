"""Locks between processes that the system drops with the process that holds them; where there are none, that is said.

filelock would take a file that is there for a lock that is held, and a process that is killed leaves it there for ever.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from dfkd_exp.errors import DfkdError

__all__ = ["FileLock", "Timeout", "is_held", "lock"]

_tried: set[Path] = set()
"""Folders whose file system has locks."""


def lock(path: Path, timeout: float = -1) -> FileLock:
    """The lock that is the file ``path``, not yet held. Raises DfkdError where the file system has none."""
    folder = path.parent.absolute()
    if folder not in _tried:
        _try(folder)
        _tried.add(folder)
    return FileLock(path, timeout=timeout)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock that is the file ``path``: asked by reading it, so that whoever may read a folder may ask."""
    if sys.platform == "win32":
        try:
            with lock(path, timeout=0):
                return False
        except Timeout:
            return True
    import fcntl

    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def _try(folder: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DfkdError(
                f"{folder}: its file system has no locks (flock: {error.strerror}), without which two runs would make one thing at once; "
                "mount it with them (Lustre: -o flock), or set outputs=… to a folder on another disk"
            ) from error
