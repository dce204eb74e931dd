"""``python -m benchmarks``: the table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks import measure, reconstruction


def main() -> None:
    console = Console(width=110)
    console.print(measure.machine())
    table = Table(*reconstruction.HEADINGS)
    for row in reconstruction.rows():
        table.add_row(*row.cells)
    console.print(table)


if __name__ == "__main__":
    main()
