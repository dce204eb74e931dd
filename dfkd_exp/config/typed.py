"""A composed config as usable objects, everything checked."""

from __future__ import annotations

import math
import os.path
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dfkd_exp.config import for_data  # noqa: F401  (yaml files use it)
from dfkd_exp.config.errors import explain, unknown_flag
from dfkd_exp.config.rows import Row
from dfkd_exp.config.tree import Config
from dfkd_exp.errors import ConfigError
from dfkd_exp.settings import under_flag


def typed(config: DictConfig) -> Config:
    """The config as usable objects, everything checked; ConfigError with one line if something is wrong."""
    try:
        result = _built(config, "")
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(result, Config)
    return result


def _built(node: Any, flag: str) -> Any:
    """A node as the object that it is a config of: each dataclass within it knows the flag under which it stands."""
    if isinstance(node, ListConfig):
        return [_built(item, f"{flag}[{number}]") for number, item in enumerate(node)]
    if not isinstance(node, DictConfig):
        if isinstance(node, float) and not math.isfinite(node):  # comparisons let NaN pass, and infinity most of them
            raise ConfigError(f"{flag} must be a finite number, got {node}")
        return OmegaConf.to_object(node) if OmegaConf.is_config(node) else node
    flags = {name: f"{flag}.{name}".lstrip(".") for name in map(str, node)}
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):  # entries by name, such as terms
        return {name: _built(node[name], flags[name]) for name in flags}
    known = {f.name for f in fields(schema)}
    for name in flags:
        if name not in known:  # +group.name=… gets past Hydra's own check
            raise ConfigError(unknown_flag(flags[name]))
    values = {name: at_home(_built(node[name], flags[name])) for name in flags}
    with under_flag(flag):
        return schema(**values)


def at_home(value: Any) -> Any:
    """A setting's value; of a text such as ``~/images`` the path that it means: Hydra wants quotes around it, in which no shell looks."""
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


def part_of(config: DictConfig, group: str) -> Any:
    """A group's choice in a composed config, the rest of which may be wrong; ConfigError if it is itself."""
    try:
        return _built(config[group], group)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error


def rows_of(config: DictConfig) -> list[Row]:
    """The rows of the composed config's experiment; ConfigError if one is wrong."""
    rows: list[Row] = _built(config.rows, "rows")
    return rows


def experiment_of(hydra_config: Any) -> str | None:
    """The experiment that was chosen, by Hydra's own config of the run or sweep."""
    return hydra_config.runtime.choices.get("experiment")


def choices_of(hydra_config: Any) -> dict[str, Any]:
    """What was chosen in each group, in their order, by Hydra's own config of the run; of terms those of somebody else."""
    chosen = reversed(hydra_config.runtime.choices.items())  # Hydra has the last first
    ours = ((group, choice) for group, choice in chosen if not group.startswith("hydra/"))
    return {group: choice for group, choice in ours if "@" not in group or group.startswith("terms@")}
