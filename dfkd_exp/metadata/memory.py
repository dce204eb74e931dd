"""How much memory statistics may take while they are collected, and images that are held there."""

from __future__ import annotations

from dfkd_exp.console import note
from dfkd_exp.errors import DfkdError
from dfkd_exp.processes import machine_memory

WARN_FROM = 2**30
"""Bytes from which on it is said beforehand how many they are."""


def check_room(num_bytes: int, what: str, instead: str, flag: str = "metadata") -> None:
    """Say how much memory ``what`` takes, and what takes less, if that is much; DfkdError, with the ``flag``, if it is more than there
    is."""
    if num_bytes < WARN_FROM:
        return
    said = f"{what} take about {num_bytes / 1e9:,.1f} GB of memory"
    if (there := machine_memory()) and num_bytes > there:
        raise DfkdError(f"{flag}: {said}, and this machine has {there / 1e9:,.1f} GB; {instead}")
    note(f"{said}; {instead}")
