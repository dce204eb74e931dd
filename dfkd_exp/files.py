"""Files that are whole or not there, and JSON that is the same text for the same value."""

from __future__ import annotations

import json
import math
import os
import stat
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

WORK = "work"
"""Sub-folder of a partial artifact for what only the building needs; removed before the artifact is sealed."""
MOST_JSON = 2**22
"""Bytes of a JSON text that is read: enough for the names of 100,000 classes or tensors."""
TENSOR_FIELDS = {"dtype", "shape", "data_offsets"}
MOST_NESTED = 32
"""So many lists and objects may lie within one another in a JSON text."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place, flush it and rename it in: readers see the old one or the new one, whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed `write_atomically` left in ``folder``."""
    for path in folder.rglob(".*"):
        if path.is_file():
            path.unlink()


def regular_size(path: Path) -> int:
    """Bytes of a regular file, or of the one that a link leads to. Raises OSError if it is not there, and ValueError if it is something
    else: a device has no end, and who opens a pipe waits for whoever writes into it."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    return status.st_size


def open_regular(path: Path) -> BinaryIO:
    """A regular file, to read. Raises OSError or ValueError as `regular_size` does."""
    regular_size(path)
    return path.open("rb")


def read_json(path: Path) -> Any:
    """What a JSON file holds (`strict_json`). Raises OSError or ValueError for one that is not there, not regular, or too large."""
    size = regular_size(path)
    if size > MOST_JSON:
        raise ValueError(f"it has {size:,} bytes, more than the {MOST_JSON:,} that are read of JSON")
    with path.open("rb") as file:
        return strict_json(file.read(size))


def strict_json(text: str | bytes) -> Any:
    """The value of a JSON text of UTF-8, in which numbers are finite and of at most 64 bits, and no key stands twice. Raises ValueError."""
    try:
        value = json.loads(
            text.decode() if isinstance(text, bytes) else text,
            parse_constant=_number, parse_float=_number, parse_int=_whole_number, object_pairs_hook=_object,
        )  # fmt: skip
        if _depth(value) > MOST_NESTED:
            raise ValueError(f"more than {MOST_NESTED} lists or objects lie within one another")
    except RecursionError as error:
        raise ValueError("its lists or objects lie within one another without end") from error
    json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is a text that nobody can show or write
    return value


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return value


def _whole_number(text: str) -> int:
    if abs(value := int(text)) >= 2**63:
        raise ValueError(f"a whole number of {len(text)} digits")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} stands twice")
    return found


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file, and at which byte its tensors begin. Raises OSError, ValueError or struct.error."""
    size = regular_size(path)
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, MOST_JSON):
            raise ValueError(f"its header is said to have {length:,} bytes, of a file of {size:,}")
        header = strict_json(file.read(length))
    entries = (
        {name: entry for name, entry in header.items() if name != "__metadata__"} if isinstance(header, dict) else None
    )
    if entries is None or not all(isinstance(e, dict) and e.keys() == TENSOR_FIELDS for e in entries.values()):
        raise ValueError("its header does not say of each tensor dtype, shape and data_offsets, and nothing else")
    return header, 8 + length


def canonical_json(value: Any) -> str:
    """One text per value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
