"""What of a run is not its experiment's own: of another data set, teacher or student nothing was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dfkd_exp.config.overrides import is_of, key_of

TASK = ("data", "teacher", "student")
"""Groups on which a published figure depends whatever the method."""


def of_task(overrides: Sequence[str]) -> list[str]:
    """Those of the ``overrides`` that choose a data set, teacher or student, or something of one."""
    return [text for text in overrides if is_of(text, TASK)]


def left_open(sweep: Mapping[str, Any], choices: Mapping[str, str | None]) -> list[str]:
    """The groups of which a run has no choice, and the ``sweep`` of its experiment those that stand in a table: ``recipe=paper,best``."""
    return [f"{key}={values}" for key, values in sweep.items() if key in choices and choices[key] in (None, "null")]


def instead_of_own(
    config: DictConfig, overrides: Sequence[str], own: DictConfig, choices: Mapping[str, str]
) -> list[str]:
    """What of the TASK stands in the place of the experiment's own, as on the command line: ``data=digits``, ``data.limit=100``.

    ``config``: the run's, which was told ``overrides``; ``own``: the experiment's by itself, of these ``choices``. Where files lie is no
    difference, nor is what the experiment leaves open."""
    said = {key_of(text): text.partition("=")[2] for text in overrides}
    found = []
    for group in TASK:
        choice = said.get(group, choices[group])
        if choice != choices[group]:
            found.append(f"{group}={choice}")
            continue
        kind: Any = OmegaConf.get_type(own, group)
        for field in own[group]:
            left_open = OmegaConf.is_missing(own[group], field)
            if field not in kind.ephemeral and not left_open and (value := config[group][field]) != own[group][field]:
                found.append(f"{group}.{field}={_plain(value)}")
    return found


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
