"""``python -m benchmarks [reconstruction] [collection] [distillation] [memory]``: the tables, measured now, on this machine."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from benchmarks import collection, distillation, memory, reconstruction
from benchmarks.measure import machine

PARTS = {"reconstruction": reconstruction.rows, "collection": collection.rows, "distillation": distillation.rows}


def main() -> None:
    """Print what was asked for, or everything."""
    wanted = sys.argv[1:] or [*PARTS, "memory"]
    if unknown := set(wanted) - {*PARTS, "memory"}:
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}; choose among {', '.join(PARTS)}, memory")
    console = Console(width=150)
    console.print(machine())
    table = Table("work", "ours", "reference", "ratio", "of the matrix-product rate", "how")
    for name in (name for name in wanted if name in PARTS):
        for row in PARTS[name]():
            table.add_row(*row.cells)
    if table.rows:
        console.print(table)
    if "memory" in wanted:
        console.print(memory.growth())


if __name__ == "__main__":
    main()
