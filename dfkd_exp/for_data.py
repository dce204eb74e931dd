"""``${for_data:{cifar10:0.05},1.0}`` in a yaml: a value that depends on the data set, as papers give their settings for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf


def for_data(values: Mapping[str, Any], otherwise: Any, *, _root_: DictConfig) -> Any:
    """The value of the chosen data set, called as in ``data=NAME``, or that for all others."""
    from dfkd_exp.config import kinds

    chosen = OmegaConf.get_type(_root_, "data")
    names = [name for name, schema in kinds("data").items() if schema is chosen]
    return next((values[name] for name in names if name in values), otherwise)


OmegaConf.register_new_resolver("for_data", for_data, replace=True)
