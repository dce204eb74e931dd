"""The rows of an experiment's table: a list in its yaml, each a name, a title for people, and the overrides that make it.

``row=NAME`` on the command line is short for the row's overrides, which `with_row` puts in front of the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dfkd_exp.config.overrides import key_of
from dfkd_exp.errors import ConfigError
from dfkd_exp.settings import Settings, did_you_mean

ROW = "row="


@dataclass
class Row(Settings):
    """One row of a table: what ``row=NAME`` stands for, and how people call it."""

    name: str = ""
    """The word on the command line: row=NAME."""
    title: str = ""
    """How reports call the row: a few words for people."""
    set: list[str] = field(default_factory=list)
    """What the row says in the place of the experiment, as on the command line: metadata=top_layer, metadata.rank=4."""
    published: float | None = None
    """The accuracy in per cent that was published for the row, beside which ours stands in the table."""

    def __post_init__(self) -> None:
        self.require("name", bool(re.fullmatch(r"[\w.-]+", self.name)), "a plain name")
        self.require("title", bool(self.title.strip()), "a few words for people")
        for override in self.set:
            if "=" not in override and not override.startswith("~"):
                raise ConfigError(f"row {self.name}: {override!r} must be written as flag=value")
            if key_of(override) == "row":
                raise ConfigError(f"row {self.name}: {override} within a row; say what that row sets")

    def plain(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def chosen(overrides: Sequence[str]) -> str:
    """The name of the row that a run was told; empty without one."""
    said = [override.removeprefix(ROW) for override in overrides if override.startswith(ROW)]
    return said[-1].strip("'\"") if said else ""


def row_called(name: str, rows: Sequence[Row], experiment: str | None) -> Row:
    """The row of that name; ConfigError with the names there are."""
    names = [row.name for row in rows]
    for twice in names:
        if names.count(twice) > 1:
            raise ConfigError(f"experiment={experiment} has two rows called {twice}; a row's name must be its own")
    if name in names:
        return rows[names.index(name)]
    if not rows:
        what = f"experiment={experiment} has no rows" if experiment else "rows are those of an experiment"
        raise ConfigError(f"row={name}: {what}; choose one that has some, for example experiment=tradeoff")
    raise ConfigError(
        f"row={name}: experiment={experiment} has no such row; choose one of {', '.join(names)}{did_you_mean(name, names)}"
    )


def with_row(overrides: Sequence[str], rows: Sequence[Row], experiment: str | None, default: str = "") -> list[str]:
    """A run's overrides with those of its row, which come first; without one, of the ``default``, the experiment's own choice, if any.
    A value that is said beside a row is in the place of the row's; ConfigError if a choice contradicts it, or there is no such row."""
    if not any(override.startswith(ROW) for override in overrides):
        if not default:
            return list(overrides)
        overrides = [*overrides, f"{ROW}{default}"]
    name = chosen(overrides)
    row = row_called(name, rows, experiment)
    others = [override for override in overrides if override not in row.set]
    said = {key_of(override): override for override in others}
    for text in row.set:
        key = key_of(text)
        if key in said and "." not in key:
            raise ConfigError(f"{said[key]}: row={name} is {text}; leave it out, or choose another row")
    return [*(text for text in row.set if key_of(text) not in said), *others]


def said_otherwise(row: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """Of a run's overrides those that are in the place of its row's; ``row``: as `Row.plain`, or nothing."""
    own = {key_of(text) for text in row.get("set", ()) if text not in overrides}
    return [override for override in overrides if key_of(override) in own]


def naming_row(message: str, overrides: Sequence[str], rows: Sequence[Row], experiment: str | None) -> str:
    """The message of a mistake; with the experiment and the row before it, if it is about what the row sets."""
    row = next((row for row in rows if row.name == chosen(overrides)), None)
    if row is None or not any(re.search(rf"(?<![\w.]){re.escape(key_of(text))}(?![\w.])", message) for text in row.set):
        return message
    return f"experiment={experiment}, row {row.name}: {message}"
