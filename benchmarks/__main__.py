"""``python -m benchmarks [PART …]``: the tables, measured now, on this machine. All parts but the experiments, unless named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks import collection, distillation, experiments, growth, lightning, memory, reconstruction, spectra
from benchmarks.measure import Row, machine

ROWS: dict[str, Callable[[], Iterator[Row]]] = {
    "reconstruction": reconstruction.rows,
    "collection": collection.rows,
    "distillation": distillation.rows,
}
TABLES: dict[str, Callable[[], Iterator[Table | str]]] = {
    "lightning": lightning.tables,
    "growth": growth.tables,
    "memory": memory.tables,
    "spectra": spectra.tables,
    "experiments": experiments.tables,
}


def main(arguments: Sequence[str]) -> None:
    """Print what was asked for; everything but the experiments, which take many minutes, if nothing was."""
    parts = [*ROWS, *TABLES]
    wanted = arguments or [part for part in parts if part != "experiments"]
    if unknown := set(wanted) - {*parts}:
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}; choose among {', '.join(parts)}")
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
