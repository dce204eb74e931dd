"""What the command line says, an override at a time: ``metadata.rank=4``, ``+a.b=1``, ``~terms.label``."""

from __future__ import annotations

from collections.abc import Collection

UNSAID = ("seed", "row")
"""Flags that people are not shown: seeds are what a mean is over, and a row has a title."""
OF_TEACHER = ("data", "teacher", "training", "trainer.precision", "release", "scale")
"""Flags, and groups of flags, on which a teacher depends, beside the seed; of a scale, which says how long one is trained, it may."""


def key_of(override: str) -> str:
    """``metadata.rank`` of ``+metadata.rank=4``."""
    return override.lstrip("+~").partition("=")[0]


def is_of(override: str, flags: Collection[str]) -> bool:
    """Whether it says one of the ``flags``, or something within the group that one of them is."""
    key = key_of(override)
    return any(key == flag or key.startswith((f"{flag}.", f"{flag}/")) for flag in flags)


def tells_teachers(override: str) -> bool:
    """Whether two runs that differ in it have different teachers."""
    return is_of(override, OF_TEACHER)
