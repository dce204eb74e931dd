"""``python -m benchmarks [PART …] [--published FOLDER]``: the tables, measured now, on this machine. All parts but the experiments, unless
named. The folder is for the part ``field``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import (
    collection,
    distillation,
    experiments,
    field,
    growth,
    lightning,
    memory,
    photographs,
    reconstruction,
    spectra,
)
from benchmarks.measure import Row, machine
from dfkd_exp.processes import keep_freed_memory

ROWS: dict[str, Callable[[], Iterator[Row]]] = {
    "reconstruction": reconstruction.rows,
    "collection": collection.rows,
    "distillation": distillation.rows,
}
TABLES: dict[str, Callable[[], Iterator[Table | str]]] = {
    "lightning": lightning.tables,
    "growth": growth.tables,
    "photographs": photographs.tables,
    "memory": memory.tables,
    "spectra": spectra.tables,
    "field": field.tables,
    "experiments": experiments.tables,
}


def main(arguments: Sequence[str]) -> None:
    """Print what was asked for; everything but the experiments, which take many minutes, if nothing was."""
    parts = [*ROWS, *TABLES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("part", nargs="*", help=f"of {', '.join(parts)}")
    parser.add_argument("--published", type=Path, help="folder of what others have published, for the part field")
    asked = parser.parse_args(arguments)
    field.FOLDER = asked.published
    wanted = asked.part or [part for part in parts if part != "experiments"]
    if unknown := set(wanted) - {*parts}:
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}; choose among {', '.join(parts)}")
    keep_freed_memory()  # as dfkd does
    console = Console(width=150)
    console.print(machine())
    table = Table("work", "ours", "reference", "ratio", "of the matrix-product rate", "how")
    for part in ROWS:
        for row in ROWS[part]() if part in wanted else ():
            table.add_row(*row.cells)
    if table.rows:
        console.print(table)
    for part in TABLES:
        for shown in TABLES[part]() if part in wanted else ():
            console.print(shown)


if __name__ == "__main__":
    main(sys.argv[1:])
