"""Hydra's composition without two detours that took more than half of a small command's time. What is composed stays the same."""

from __future__ import annotations

from typing import Any

from hydra._internal import defaults_list
from hydra._internal.hydra import Hydra

from dfkd_exp.config import home

_hydra: Any = Hydra
_defaults_list: Any = defaults_list
_get_mode = _hydra.get_mode
_create_interpolation_map = _defaults_list._create_interpolation_map

_MAY_SAY_THE_MODE = ("hydra", "experiment", "sweep", "+", "~")
"""How overrides begin that may decide whether a command is a sweep."""


def shorten() -> None:
    """Take the detours out, for this process."""
    _hydra.get_mode = _mode
    _defaults_list._create_interpolation_map = _map_where_needed


def _mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """`hydra.mode`, for which Hydra composes everything once more; it is none unless an override could set it."""
    if config_name == "config" and not any(map(_may_say_the_mode, overrides)) and not _brings_configs(hydra):
        return None
    return _get_mode(hydra, config_name, overrides)


def _may_say_the_mode(override: str) -> bool:
    """Values do not, nor do our own choices but experiments and sweeps; somebody else's file may set anything."""
    flag, _, choice = override.partition("=")
    if flag.startswith(_MAY_SAY_THE_MODE) or "@" in flag:
        return True
    return home(flag).is_dir() and not (home(flag) / f"{choice}.yaml").is_file()


def _brings_configs(hydra: Hydra) -> bool:
    """Whether ``--config-dir`` was said, whose files come before ours."""
    return any(place.provider == "command-line" for place in hydra.config_loader.get_search_path().get_path())


def _map_where_needed(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
    """All choices so far as a config, for ``${…}`` in a defaults list; Hydra makes one for every file, with or without."""
    if any(not default.is_self() and default.is_interpolation() for default in defaults):
        return _create_interpolation_map(overrides, defaults, self_added)
    return None
