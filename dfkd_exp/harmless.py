"""Text of somebody else's (a release's names, a file's errors), made harmless for the place where it is shown."""

from __future__ import annotations

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
