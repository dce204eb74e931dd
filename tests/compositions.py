"""What Hydra composes of the same choices is composed once in a process of tests, and the values set in a copy, as in a sweep's jobs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig

from dfkd_exp.config.composition import _is_choice, _is_value, _with_values
from dfkd_exp.config.groups import CONF, choices

OURS = ["pkg://hydra.conf", str(CONF), "structured://"]
"""Where a command finds its configs, which do not change while it is tested."""
COMPOSED: dict[Any, bytes] = {}
"""By what Hydra is asked to be compatible with, and the choices; pickled, since it is copied for each that asks."""
READ: dict[Any, bytes] = {}
"""By where Hydra looks, and name; pickled, too."""


def once(compose: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """`ConfigLoaderImpl._load_configuration_impl`, which composes only what nobody has."""

    def composed(
        loader: ConfigLoaderImpl,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        parsed = OverridesParser.create().parse_overrides(overrides)
        chosen = [
            text
            for text, override in zip(overrides, parsed, strict=True)
            if override.is_hydra_override() or _is_choice(override)
        ]
        own = [override for override in parsed if not override.is_hydra_override()]
        values = [override for override in own if _is_value(override) or _is_entry(override)]
        others = len(parsed) - len(chosen) - len(values)
        values = [override for override in values if not override.is_sweep_override()]  # as Hydra does
        places = [place.path.removeprefix("file://") for place in loader.get_search_path().get_path()]
        if config_name != "config" or others or places != OURS or not all(map(_is_ours, chosen)):
            return compose(loader, config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        if validate_sweep_overrides:
            loader.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        key = (str(version.getbase()), *chosen)
        if key not in COMPOSED:
            composition = compose(loader, config_name, chosen, run_mode, from_shell, validate_sweep_overrides)
            COMPOSED[key] = pickle.dumps(composition)
        config = _with_values(COMPOSED[key], own, values)
        config.hydra.runtime.cwd = os.getcwd()
        return config

    return composed


def _is_ours(choice: str) -> bool:
    """A file of conf/, or Hydra's own, which do not change; a class by import path may."""
    group, _, names = choice.partition("=")
    if group.startswith("hydra"):
        return group != "hydra.searchpath"
    return all(name.strip() in choices(group) for name in names.strip("[]").split(","))


def _is_entry(override: Override) -> bool:
    """``+student.kwargs.width=4``: of a group that is there."""
    plain = override.type is OverrideType.ADD and override.package is None
    return plain and "." in override.key_or_group and "/" not in override.key_or_group


def read_once(load: Callable[[ConfigRepository, str], ConfigResult | None]) -> Callable[..., ConfigResult | None]:
    """`ConfigRepository.load_config`, which reads a file of conf/, or makes a schema of ours, only once."""

    def loaded(repository: ConfigRepository, config_path: str) -> ConfigResult | None:
        places = tuple(source.path for source in repository.sources)
        name = config_path.rpartition("/")[2]
        if set(places) - {place.rpartition("://")[2] for place in OURS} or (
            "." in name and not name.startswith("dfkd_exp.")
        ):
            return load(repository, config_path)
        key = (places, config_path)
        if key not in READ:
            READ[key] = pickle.dumps(load(repository, config_path))
        return pickle.loads(READ[key])  # a composition changes what it is given

    return loaded
