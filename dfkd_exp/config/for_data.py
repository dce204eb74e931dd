"""``${for_data:{cifar10:0.05},1.0}`` in a yaml: a value that depends on the data set, as papers give their settings for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dfkd_exp.data.decoded import DecodedData

PHOTOGRAPHS = "cifar10"
"""Whose settings image files in colour have, somebody's own above all."""


def for_data(values: Mapping[str, Any], otherwise: Any, *, _root_: DictConfig) -> Any:
    """The value of the chosen data set, called as in ``data=NAME``, which is its dataclass's name; else, of image files in colour, that of
    PHOTOGRAPHS; or that for all others."""
    chosen = OmegaConf.get_type(_root_, "data")
    names = [chosen.__name__.lower()] if chosen is not None else []
    if chosen is not None and issubclass(chosen, DecodedData) and _root_.data.get("channels", 3) == 3:
        names.append(PHOTOGRAPHS)
    known = {key.replace("_", ""): value for key, value in values.items()}
    return next((known[name] for name in names if name in known), otherwise)


OmegaConf.register_new_resolver("for_data", for_data, replace=True)
