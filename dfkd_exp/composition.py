"""Hydra's composition without two detours that took more than half of a small command's time. What is composed stays the same."""

from __future__ import annotations

from typing import Any

from hydra._internal import defaults_list
from hydra._internal.hydra import Hydra

_SAYS_THE_MODE = ("hydra", "experiment", "+", "~")
"""How overrides begin that could decide whether a command is a sweep."""

_get_mode = Hydra.get_mode
_create_interpolation_map = defaults_list._create_interpolation_map


def shorten() -> None:
    """Take the detours out, for this process."""
    Hydra.get_mode = _mode  # type: ignore[method-assign]
    defaults_list._create_interpolation_map = _map_where_needed


def _mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """`hydra.mode`, for which Hydra composes everything once more; it is none unless an override could set it."""
    if config_name == "config" and not any(text.startswith(_SAYS_THE_MODE) for text in overrides):
        return None
    return _get_mode(hydra, config_name, overrides)


def _map_where_needed(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
    """All choices so far as a config, for ``${…}`` in a defaults list; Hydra makes one for every file, with or without."""
    if any(not default.is_self() and default.is_interpolation() for default in defaults):
        return _create_interpolation_map(overrides, defaults, self_added)
    return None
