"""Flags in words for people: a choice is called as the first line of its yaml says, a field by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from dfkd_exp.config.groups import CONF, groups
from dfkd_exp.config.overrides import UNSAID, is_of

PREFIXED = ("teacher", "student")
"""Groups whose choices have the same names, and so are called with the group's."""
SELF_EVIDENT = ("metadata", "reconstruction")
"""Groups whose fields are called without the group's name."""
NAMES = {"lr": "learning rate", "kwargs": "", "dp": ""}
"""Parts of flags that are called otherwise than their name says."""
VALUES = {"null": "none", "true": "yes", "false": "no"}


def headline(path: Path) -> tuple[str, str]:
    """Title and explanation of a choice: the first comment of its yaml, ``# TITLE: explanation``; empty without one."""
    comments = (line[2:].strip() for line in path.read_text("utf-8").splitlines() if line.startswith("# "))
    title, _, explanation = next((text for text in comments if not text.startswith("@package")), "").partition(": ")
    return title.strip(), explanation.strip()


def in_words(override: str) -> str:
    """``metadata=top_layer`` as "top layer", ``distillation.lr=0.01`` as "distillation learning rate 0.01"."""
    flag, _, value = override.lstrip("+").partition("=")
    if flag.startswith("~"):
        return f"without {flag[1:]}"
    if flag in _groups():
        return _choice(flag, value)
    group, *fields = flag.split(".") if "." in flag else ("", flag)
    called = [NAMES.get(part, part.replace("_", " ")) for part in fields]
    shown = [] if group in SELF_EVIDENT else [group]
    return " ".join(filter(None, [*shown, *called, VALUES.get(value, _in_short(value))]))


def _in_short(value: str) -> str:
    """A number that is longer than people read, such as one that a search has drawn, to four digits; all else as it is."""
    if not re.fullmatch(r"-?\d{0,4}\.\d{4,}(e-?\d+)?", value):
        return value
    return min(value, f"{float(value):.4g}", key=len)


_groups = cache(groups)
"""Read from ``conf/`` once: a run has a dozen flags."""


def _choice(group: str, value: str) -> str:
    path = CONF / group / f"{value}.yaml"
    title = headline(path)[0] if path.is_file() else ""
    if title:
        return f"{group} {title}" if group in PREFIXED else title
    return f"{group} {value.rpartition('.')[2]}"  # somebody's own yaml, or class by import path


def words_of(overrides: Iterable[str]) -> dict[str, str]:
    """The words of each override that may be shown, by override: what reports take titles from, so that they need no ``conf/``."""
    return {text: in_words(text) for text in overrides if not is_of(text, UNSAID)}
