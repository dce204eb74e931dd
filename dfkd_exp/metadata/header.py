"""What a metadata file says of itself, read without torch: who only compares files loads no statistic."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfkd_exp.errors import DfkdError
from dfkd_exp.files import safetensors_header

FORMAT, VERSION = "dfkd-metadata", 3


@dataclass(frozen=True)
class Header:
    """``said``: the file's own JSON; ``num_bytes``: of the statistics themselves, without it."""

    said: dict[str, Any]
    num_bytes: int


def read_header(path: Path) -> Header:
    """The header of a metadata file. Raises DfkdError for one that is missing, truncated, or of another format or version."""
    try:
        header, _ = safetensors_header(path)
        said = json.loads(header.pop("__metadata__", {}).get("dfkd", "{}"))
        num_bytes = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, MemoryError) as error:
        raise DfkdError(f"{path} cannot be read as metadata ({error}); fetch or collect it again") from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise DfkdError(f"{path} is not a {FORMAT} file")
    if said.get("version") != VERSION:
        older = isinstance(said.get("version"), int) and said["version"] < VERSION
        way_out = "have it collected again" if older else "update dfkd_exp"
        raise DfkdError(f"{path} has schema version {said.get('version')}, this program reads {VERSION}; {way_out}")
    return Header(said, num_bytes)
