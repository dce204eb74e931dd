"""What is known of trained weights without reading them, and what there is to say of them when they were read; without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief


@dataclass(frozen=True)
class Loaded:
    """What there is to say of weights that were loaded, or of the network."""

    notes: list[str]
    """What was taken, left out and converted."""
    claimed_accuracy: float | None
    """What is said beside the weights of their accuracy, in 0 to 1; None if nothing is."""
    of: str = "weights"
    """What the notes are about."""


def is_index(path: Path) -> bool:
    """Whether a file says which weight is in which of several others, as ``model.safetensors.index.json`` does."""
    return path.name.endswith(".index.json")


def files_of(path: Path) -> list[Path]:
    """All files that a checkpoint consists of: itself and, for an index, those that it names."""
    if not is_index(path):
        return [path]
    try:
        names = sorted(set(json.loads(path.read_text("utf-8"))["weight_map"].values()))
        missing = [name for name in names if Path(name).name != name or not (path.parent / name).is_file()]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DfkdError(f"{path} is no index of a network's files: it must say weight_map") from error
    if missing:
        raise DfkdError(
            f"{path} names {brief(', '.join(missing))}, which must lie beside it and does not; fetch all of its files"
        )
    return [path, *(path.parent / name for name in names)]
