"""What a metadata file says of itself, read without torch: who only compares files loads no statistic."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfkd_exp.errors import DfkdError
from dfkd_exp.files import canonical_json, safetensors_header, strict_json
from dfkd_exp.harmless import brief
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.choices import SUMMARIES
from dfkd_exp.schema import require_schema

FORMAT, VERSION = "dfkd-metadata", 4


@dataclass(frozen=True)
class Header:
    """``said``: the file's own JSON; ``num_bytes``: of the statistics themselves, without it."""

    said: dict[str, Any]
    num_bytes: int


def read_header(path: Path) -> Header:
    """The header of a metadata file. Raises DfkdError for one that is missing, truncated, of another format or version, or not as the
    schema says."""
    try:
        header, start = safetensors_header(path)
        said = strict_json(header.get("__metadata__", {}).get("dfkd", "{}"))
        num_bytes = path.stat().st_size - start
    except (OSError, ValueError, TypeError, AttributeError, struct.error, MemoryError) as error:
        raise DfkdError(
            f"{path} cannot be read as metadata ({brief(str(error))}); fetch or collect it again"
        ) from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise DfkdError(f"{path} is not a {FORMAT} file")
    version = said.get("version")
    if version != VERSION:
        way_out = "have it collected again" if type(version) is int and version < VERSION else "update dfkd_exp"
        raise DfkdError(f"{path} has schema version {brief(str(version))}, this program reads {VERSION}; {way_out}")
    try:
        if more := header["__metadata__"].keys() - {"dfkd"}:
            raise ValueError(f"its own header has {min(more)!r} beside 'dfkd'")
        _check(said)
    except ValueError as error:
        raise broken_promise(path, error) from error
    return Header(said, num_bytes)


def broken_promise(path: Path, error: Exception) -> DfkdError:
    """What is said of a file that is not what it should be."""
    what = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | RuntimeError) else str(error)
    return DfkdError(f"{path} does not hold what {FORMAT} version {VERSION} promises ({brief(what)}); fetch it again")


def _check(said: dict[str, Any]) -> None:
    """Raise ValueError unless the header follows the schema and its numbers fit one another."""
    require_schema(_in_our_words(said), "metadata-v4")
    InputSpec.from_json(said["inputs"])
    counts, classes = said["counts"], said["num_classes"]
    if counts is not None and len(counts) != classes:
        raise ValueError(f"counts of {len(counts)} classes, not of {classes} classes")
    for (name, side), times in Counter((layer["name"], layer["side"]) for layer in said["layers"]).most_common(1):
        if times > 1:
            raise ValueError(f"the {side} of layer {name!r} is named twice")
    for statistic, times in Counter(map(canonical_json, said["statistics"])).most_common(1):
        if times > 1:
            raise ValueError(f"the statistic {statistic} is named twice")
    dp = said["kind"].get("dp")
    if dp and dp["delta"] * sum(counts or ()) >= 1:
        raise ValueError(
            f"a delta of {dp['delta']:g} promises nothing for {sum(counts):,} images: it must be below 1 / images"
        )


def _in_our_words(said: dict[str, Any]) -> dict[str, Any]:
    """The header with summaries of another package's form, which the schema does not know, in the place of ours: only whoever has that
    package reads their fields."""
    entries = said.get("statistics")
    if not isinstance(entries, list):
        return said
    return said | {"statistics": [_as_ours(entry) if _is_foreign(entry) else entry for entry in entries]}


def _is_foreign(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("summary"), str) and entry["summary"] not in SUMMARIES


def _as_ours(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("layers", "basis", "grid", "scope") if name in entry} | {
        "origin": "data", "summary": "diagonal",
    }  # fmt: skip
