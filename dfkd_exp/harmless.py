"""Text of somebody else's (a release's names, a file's errors), made harmless for the place where it is shown."""

from __future__ import annotations

import re
from html import escape

FIGURE = re.compile(r"[+-]?[\d.,]+( ± [\d.,]+)?")
MOST_SHOWN = 120
"""Letters of what is wrong that are shown in a message; a value may be as long as its file."""


def printable(text: str, keep: str = "") -> str:
    """``text`` with what is not printable as escapes, ``\\x1b``, but for the letters of ``keep``: no such letter moves a cursor, changes a
    colour, begins a line or turns the direction of writing."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def brief(text: str) -> str:
    """``text`` in one line; its beginning and end if it is long."""
    text, half = printable(" ".join(text.split())), MOST_SHOWN // 2
    return text if len(text) <= MOST_SHOWN else f"{text[:half]} … {text[-half:]}"


def in_brief(error: BaseException) -> str:
    """What another's code raised, in one line."""
    return f"{type(error).__name__}: {brief(str(error))}".removesuffix(": ")


def in_html(text: str) -> str:
    """``text`` in a page's text or in an attribute between quotes."""
    return escape(printable(text, keep="\n"))


def in_markdown(text: str) -> str:
    """``text`` in a line or a table's cell of Markdown: no HTML, no link or picture, no further cell."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("|", r"\|").replace("](", r"]\(")


def as_code(text: str) -> str:
    """``text`` as code in a line or a table's cell of Markdown."""
    return f"`{printable(text).replace('`', chr(39))}`".replace("|", r"\|")


def in_csv(text: str) -> str:
    """``text`` in a cell of a table that a spreadsheet opens: what begins as a formula does, and is no figure, gets a quote before it."""
    text = printable(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not FIGURE.fullmatch(text) else text
