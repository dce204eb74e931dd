"""``dfkd-report``: the report of a sweep, or what differs between two."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.markup import escape

from dfkd_exp import console
from dfkd_exp.errors import DfkdError
from dfkd_exp.report.compare import compared
from dfkd_exp.report.page import write_report
from dfkd_exp.report.published import write_published
from dfkd_exp.report.sentences import in_words
from dfkd_exp.report.status import by_age
from dfkd_exp.report.summary import Sweep, read
from dfkd_exp.terminal import at_terminal


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="dfkd-report",
        description="One HTML file of a sweep, and its tables and drawings for papers; or two sweeps compared.",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        default="outputs",
        type=Path,
        help="a sweep, a run, or the outputs: the newest in them with a result",
    )
    parser.add_argument(
        "other", nargs="?", type=Path, help="another one: what changed in config and figures, FOLDER first"
    )
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where to write (default: in the sweep's folder)")
    with at_terminal():
        said = parser.parse_args()
        try:
            sweep = _newest_with_result(said.folder)
            if said.other is not None:
                console.show(compared(sweep, _newest_with_result(said.other)))
                return
            folder = said.to or sweep.folder
            tables = write_published(sweep.settings, folder)
            page = write_report(sweep, folder)
            for sentence in in_words(sweep):
                console.show(escape(sentence))
            for path in tables:
                console.show(escape(f"table    {console.short(path)}"))
            console.show(escape(f"report   {console.short(page)}"))
        except DfkdError as error:
            console.error(str(error))
            sys.exit(2)
        except OSError as error:
            console.error(f"{error.strerror}: {error.filename}")
            sys.exit(1)


def _newest_with_result(folder: Path) -> Sweep:
    """The sweep or run that ``folder`` is; else the newest in it of which there is something to report. DfkdError if there is none."""
    places = by_age(folder)
    if places == [folder]:
        return read(folder)
    for place in places:
        if (sweep := read(place)).settings:
            if place != places[0]:
                console.note(
                    f"{console.short(places[0])} is newer and has no result; this is of {console.short(place)}"
                )
            return sweep
    raise DfkdError(f"{folder}: nothing in it has a result; dfkd-status says why, and how far the newest is")


if __name__ == "__main__":
    main()
