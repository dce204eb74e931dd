"""Two sweeps beside each other: what changed in config, what in the figures, and whether seeds explain it."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from dfkd_exp.config.overrides import UNSAID, is_of
from dfkd_exp.report.setting import Setting
from dfkd_exp.report.summary import Sweep, differ

NOT_OF_A_SETTING = (*UNSAID, "outputs", "name", "logger")
"""Flags that decide no figure, but for the seed, over which it is a mean; what a row sets stands beside it."""


def compared(one: Sweep, other: Sweep) -> Group:
    """A table of the settings that both have, after what differs in how they were made. A setting is in both if it was told the same, but
    for what all of one sweep were told and none of the other."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("setting", overflow="fold")
    for heading in ("A %", "B %", "B - A", "more than seeds vary", "bytes A", "bytes B"):
        table.add_column(heading, justify="right")
    first, second = _by_what_was_told(one, other), _by_what_was_told(other, one)
    titles_of = second if len(second) > len(first) else first  # a title says what varied within its own sweep
    for told in first:
        if told in second:
            _add(table, titles_of[told].title, first[told], second[told])
    lines = [f"A: {one.folder}", f"B: {other.folder}", *changes(one, other)]
    for name, own, others in (("A", first, second), ("B", second, first)):
        if only := sorted(setting.title for told, setting in own.items() if told not in others):
            lines.append(f"only in {name}: {'; '.join(only)}")
    if not table.rows:
        lines.append("no setting is in both: none was told the same")
    return Group(*map(escape, lines), *([table] if table.rows else []))


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
    """What all runs of one sweep were told and none of the other, and the versions that differ."""
    words = {
        text: said for s in (*one.settings, *other.settings) for text, said in s.results[0].get("words", {}).items()
    }
    lines = []
    for name, own in (("A", _of_it_alone(one, other)), ("B", _of_it_alone(other, one))):
        if own:
            lines.append(f"only {name} was told: {'; '.join(sorted(words.get(text, text) for text in own))}")
    for field in ("code_version", "machine"):
        values = [{r[field] for s in sweep.settings for r in s.results} for sweep in (one, other)]
        if values[0] != values[1]:
            lines.append(
                f"{field.replace('_', ' ')}: A {', '.join(sorted(values[0]))}; B {', '.join(sorted(values[1]))}"
            )
    return lines


def _by_what_was_told(sweep: Sweep, other: Sweep) -> dict[frozenset[str], Setting]:
    """The settings of a sweep by what tells them from one another, and from those of the ``other``."""
    alone = _of_it_alone(sweep, other)
    return {_told(setting) - alone: setting for setting in sweep.settings}


def _of_it_alone(sweep: Sweep, other: Sweep) -> frozenset[str]:
    """What all settings of a sweep were told and none of the ``other``."""
    told = [_told(setting) for setting in sweep.settings]
    return frozenset.intersection(*told).difference(*map(_told, other.settings)) if told else frozenset()


def _told(setting: Setting) -> frozenset[str]:
    return frozenset(text for text in setting.results[0]["overrides"] if not is_of(text, NOT_OF_A_SETTING))
