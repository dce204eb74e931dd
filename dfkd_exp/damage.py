"""The program's own files that something has damaged: kept under another name, said, and made again."""

from __future__ import annotations

import time
from pathlib import Path

from dfkd_exp import console


def move_aside(path: Path, why: str, into: Path | None = None) -> None:
    """Give what is at ``path`` another name, beside its place or in the folder ``into``, and warn: ``why`` it cannot be used."""
    aside = (into or path.parent) / f"{path.name}.damaged-{time.time_ns()}"
    aside.parent.mkdir(exist_ok=True)
    path.rename(aside)
    console.warn(f"{why}; moved to {aside} and made again")
