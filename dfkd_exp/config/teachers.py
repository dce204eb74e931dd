"""Which overrides make another teacher: what reports and forecasts tell the teachers of a sweep apart by."""

from __future__ import annotations

OF_TEACHER = ("data", "teacher", "training", "trainer.precision", "scale", "release")
"""Flags, and groups of flags, on which a teacher depends, beside the seed."""


def tells_teachers(override: str) -> bool:
    """Whether two runs that differ in it have different teachers."""
    flag = override.lstrip("+~").partition("=")[0]
    return any(flag == name or flag.startswith((f"{name}.", f"{name}/")) for name in OF_TEACHER)
