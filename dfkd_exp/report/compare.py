"""Two sweeps beside each other: what changed in config, what in the figures, and whether seeds explain it."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from dfkd_exp.config.overrides import UNSAID, is_of
from dfkd_exp.report.setting import Setting
from dfkd_exp.report.summary import Sweep, differ


def compared(one: Sweep, other: Sweep) -> Group:
    """A table of the settings that both have, after what differs in how they were made."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("setting", overflow="fold")
    for heading in ("A %", "B %", "B - A", "more than seeds vary", "bytes A", "bytes B"):
        table.add_column(heading, justify="right")
    first, second = ({setting.title: setting for setting in sweep.settings} for sweep in (one, other))
    if len(first) == len(second) == 1:  # the titles say what varied within a sweep, and nothing did
        [a], [b] = first.values(), second.values()
        second = {a.title: b}
    for title in first:
        if title in second:
            _add(table, title, first[title], second[title])
    lines = [f"A: {one.folder}", f"B: {other.folder}", *changes(one, other)]
    for name, only in (("A", first.keys() - second.keys()), ("B", second.keys() - first.keys())):
        if only:
            lines.append(f"only in {name}: {'; '.join(sorted(only))}")
    return Group(*map(escape, lines), table)


def _add(table: Table, title: str, a: Setting, b: Setting) -> None:
    apart, certain = "–", "–"
    if a.accuracy.mean is not None and b.accuracy.mean is not None:
        apart = f"{b.accuracy.mean - a.accuracy.mean:+.2f}"
        known = differ(a.accuracy, b.accuracy)
        certain = "one seed: unknown" if known is None else "yes" if known else "no"
    table.add_row(
        escape(title), a.accuracy.text(), b.accuracy.text(), apart, certain, f"{a.num_bytes:,}", f"{b.num_bytes:,}"
    )


def changes(one: Sweep, other: Sweep) -> list[str]:
    """What all runs of one sweep were told and those of the other not, and the versions that differ."""
    told = [_shared_overrides(sweep) for sweep in (one, other)]
    lines = []
    for name, own, others in (("A", told[0], told[1]), ("B", told[1], told[0])):
        if own - others:
            lines.append(f"only {name} was told: {'; '.join(sorted(own - others))}")
    for field in ("code_version", "machine"):
        values = [{r[field] for s in sweep.settings for r in s.results} for sweep in (one, other)]
        if values[0] != values[1]:
            lines.append(
                f"{field.replace('_', ' ')}: A {', '.join(sorted(values[0]))}; B {', '.join(sorted(values[1]))}"
            )
    return lines


def _shared_overrides(sweep: Sweep) -> set[str]:
    said = [set(result["overrides"]) for setting in sweep.settings for result in setting.results]
    shared = set.intersection(*said) if said else set()
    words = {
        text: said for setting in sweep.settings for r in setting.results for text, said in r.get("words", {}).items()
    }
    return {words.get(text, text) for text in shared if not is_of(text, ("outputs", *UNSAID))}
