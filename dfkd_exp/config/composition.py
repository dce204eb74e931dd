"""Hydra's composition without detours that took more than half of a small command's time, and with rows where it is shown."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import hydra
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import ConfigCompositionException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dfkd_exp.config.errors import CONFIG_ERRORS, explain
from dfkd_exp.config.groups import home
from dfkd_exp.config.rows import with_row
from dfkd_exp.config.tree import Config
from dfkd_exp.config.typed import choices_of, experiment_of, rows_of, typed
from dfkd_exp.errors import ConfigError

_hydra: Any = Hydra
_defaults_list: Any = defaults_list
_get_mode = _hydra.get_mode
_show_cfg = _hydra.show_cfg
_get_sanitized_cfg = _hydra.get_sanitized_cfg
_compose_config = _hydra.compose_config
_create_interpolation_map = _defaults_list._create_interpolation_map

_MAY_SAY_THE_MODE = ("hydra", "experiment", "sweep", "+", "~")
"""How overrides begin that may decide whether a command is a sweep."""


def shorten() -> None:
    """Take the detours out, and the rows in, for this process."""
    _hydra.get_mode = _mode
    _hydra.show_cfg = _show_with_row
    _hydra.get_sanitized_cfg = _with_choices
    _hydra.compose_config = _compose_with_row
    _defaults_list._create_interpolation_map = _map_where_needed


def _mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """`hydra.mode`, for which Hydra composes everything once more; it is none unless an override could set it.

    MissingConfigException for a choice that there is not: Hydra would take the command for a run, and complain of another flag's several
    values."""
    if config_name == "config" and not any(map(_may_say_the_mode, overrides)) and not _brings_configs(hydra):
        return None
    mode = _get_mode(hydra, config_name, overrides)
    if mode is None and any("," in re.sub(r"\[[^\]]*\]", "", override) for override in overrides):
        try:
            hydra.config_loader.load_configuration(
                config_name, overrides, RunMode.MULTIRUN, validate_sweep_overrides=False
            )
        except MissingConfigException:
            raise
        except ConfigCompositionException:
            pass  # a run is composed anew, and says it
    return mode


def _compose_with_row(
    hydra: Hydra, config_name: str | None, overrides: list[str], run_mode: RunMode, **named: Any
) -> Any:
    """As `Hydra.compose_config`. A value may belong to what a row chooses, and be nowhere without it: a run is then composed with its row,
    and a sweep, of which jobs have theirs, without such values."""

    def compose(said: list[str]) -> DictConfig:
        return _compose_config(hydra, config_name, said, run_mode, **named)

    try:
        return compose(overrides)
    except ConfigCompositionException:
        parsed = OverridesParser.create().parse_overrides(overrides)
        of_groups = [_is_value(override) and "." in override.key_or_group for override in parsed]
        if config_name != "config" or not any(of_groups):
            raise
        config = compose([text for text, of_group in zip(overrides, of_groups, strict=True) if not of_group])
        if not (rows := rows_of(config)):
            raise
        if run_mode is RunMode.RUN:
            return compose(with_row(overrides, rows, experiment_of(config.hydra), config.row))
        for override, of_group in zip(parsed, of_groups, strict=True):
            if of_group:
                with suppress(ConfigCompositionException):
                    ConfigLoaderImpl._apply_overrides_to_config([override], config)
        _say(config, [override for override in parsed if not override.is_hydra_override()])
        return config


def _show_with_row(hydra: Hydra, config_name: str, overrides: list[str], *others: Any, **named: Any) -> None:
    """``--cfg``: the config of a run, with what its row sets."""
    if config_name == "config":
        composed: Any = hydra.compose_config(config_name, overrides, RunMode.RUN, with_log_configuration=False)
        overrides = with_row(overrides, rows_of(composed), experiment_of(composed.hydra), composed.row)
    _show_cfg(hydra, config_name, overrides, *others, **named)


def _with_choices(hydra: Hydra, config: DictConfig, shown: str) -> DictConfig:
    """``--cfg job``: the config after what was chosen in each group, which its fields do not tell."""
    chosen = choices_of(config.hydra)
    config = _get_sanitized_cfg(hydra, config, shown)
    if shown != "job":
        return config
    values: Any = OmegaConf.to_container(config)
    return OmegaConf.create({"choices": chosen, **values})


def _may_say_the_mode(override: str) -> bool:
    """Values do not, nor do our own choices but experiments and sweeps; somebody else's file may set anything."""
    flag, _, choice = override.partition("=")
    if flag.startswith(_MAY_SAY_THE_MODE) or "@" in flag:
        return True
    return home(flag).is_dir() and not all((home(flag) / f"{name}.yaml").is_file() for name in choice.split(","))


def _brings_configs(hydra: Any) -> bool:
    """Whether ``--config-dir`` was said, whose files come before ours. ``hydra`` has a config loader."""
    return any(place.provider == "command-line" for place in hydra.config_loader.get_search_path().get_path())


def _map_where_needed(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
    """All choices so far as a config, for ``${…}`` in a defaults list; Hydra makes one for every file, with or without."""
    if any(not default.is_self() and default.is_interpolation() for default in defaults):
        return _create_interpolation_map(overrides, defaults, self_added)
    return None


def config_of_job(overrides: Sequence[str]) -> Config:
    """The config of another job of the sweep that this process runs one of; ConfigError if it is wrong."""
    try:
        return typed(hydra.compose("config", [*HydraConfig.get().overrides.hydra, *overrides]))
    except CONFIG_ERRORS as error:
        raise ConfigError(explain(error)) from error


class JobConfigs:
    """The configs of a sweep's jobs. Those of the same choices, which differ in values such as the seed, are composed once."""

    def __init__(self, hydra_context: Any) -> None:
        self.compose = hydra_context.config_loader.load_sweep_config
        self.own_choices_alone = not _brings_configs(hydra_context)
        self.of_choices: dict[tuple[str, ...], bytes] = {}
        self.checked: dict[tuple[str, ...], DictConfig] = {}

    def load(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """As `ConfigLoader.load_sweep_config`. Hydra asks twice for each job: to check it, and to run it. No two jobs are the same."""
        key = tuple(sweep_overrides)
        if key in self.checked:
            return self.checked.pop(key)
        self.checked[key] = self._load(master_config, sweep_overrides)
        return self.checked[key]

    def _load(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        overrides = OverridesParser.create().parse_overrides(sweep_overrides)
        choices = tuple(text for text, o in zip(sweep_overrides, overrides, strict=True) if _is_choice(o))
        values = [override for override in overrides if _is_value(override)]
        if not self.own_choices_alone or len(choices) + len(values) != len(overrides):
            return self.compose(master_config, sweep_overrides)
        if choices not in self.of_choices:
            self.of_choices[choices] = pickle.dumps(self.compose(master_config, list(choices)))
        return _with_values(self.of_choices[choices], overrides, values)


def _is_choice(override: Override) -> bool:
    return override.type is OverrideType.CHANGE and override.package is None and home(override.key_or_group).is_dir()


def _is_value(override: Override) -> bool:
    """Hydra sets these last, in their order, so that they may be set in what is composed. It sets its own on the way."""
    flag = override.key_or_group
    plain = override.type is OverrideType.CHANGE and override.package is None and not override.is_hydra_override()
    return plain and "/" not in flag and not home(flag).is_dir()


def _with_values(composed: bytes, overrides: Sequence[Override], values: list[Override]) -> DictConfig:
    """A copy of what was ``composed``, with values. It is kept pickled: to load it takes a fifth of the time of `copy.deepcopy`."""
    config = pickle.loads(composed)
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    _say(config, overrides)
    return config


def _say(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Have a config tell that it was composed of these, as Hydra has it."""
    config.hydra.overrides.task = [override.input_line for override in overrides]
    said = config.hydra.job.config.override_dirname
    config.hydra.job.override_dirname = get_overrides_dirname(
        list(overrides), kv_sep=said.kv_sep, item_sep=said.item_sep, exclude_keys=said.exclude_keys
    )
