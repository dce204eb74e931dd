"""What a sweep is going to run: its jobs, each with what its row sets, written down before the first begins."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, flag_override

from dfkd_exp import console
from dfkd_exp.config.effect import effective
from dfkd_exp.config.errors import explain
from dfkd_exp.config.overrides import key_of
from dfkd_exp.config.rows import chosen, naming_row, with_row
from dfkd_exp.config.typed import experiment_of, rows_of, typed
from dfkd_exp.config.words import words_of
from dfkd_exp.errors import ConfigError
from dfkd_exp.ranks import ranks_of_process
from dfkd_exp.run_folder import plan_sweep


def plan_jobs(
    folder: Path, grid: Sequence[Sequence[str]], config: Any, compose: Callable[[list[str]], Any]
) -> list[list[str]]:
    """The jobs of a ``grid`` with their rows' overrides, without what decides nothing in them, each once, written into the sweep's
    ``folder``; ``config`` is the sweep's, composed, and ``compose`` that of a job.

    ConfigError for a row that there is not, or that a flag contradicts, and for a flag that has no effect in any of the jobs."""
    rows, experiment = rows_of(config), experiment_of(config.hydra)
    said = {key_of(text) for text in config.hydra.overrides.task}
    told = effective(
        [with_row(job, rows, experiment) for job in grid], said, {text for row in rows for text in row.set}, compose
    )
    jobs = [list(job) for job in dict.fromkeys(map(tuple, told))]
    if ranks_of_process().first:
        used = {chosen(job) for job in jobs}
        words = words_of(dict.fromkeys(override for job in jobs for override in job))
        plan_sweep(folder, jobs, [row.plain() for row in rows if row.name in used], words)
        if same := len(told) - len(jobs):
            are = "jobs are the same as others and are" if same > 1 else "job is the same as another and is"
            console.note(f"{same} {are} left out")
    return jobs


def require_values(overrides: Sequence[Any]) -> None:
    """Raise ConfigError for one of Hydra's parsed overrides that is to be swept over and has no value, as ``range(0,0)``."""
    for override in overrides:
        if override.is_discrete_sweep() and next(override.sweep_string_iterator(), None) is None:
            raise ConfigError(f"{override.input_line}: there is no value in it to sweep over; say one, or leave it out")


def require_one_right(jobs: Sequence[Sequence[str]], configs: Sequence[Any], config: Any) -> None:
    """Raise ConfigError if no job's config is right, with what is wrong with each, said once. If some are, the sweep is worth its while."""
    wrong = []
    for overrides, composed in zip(jobs, configs, strict=True):
        try:
            typed(_without_hydra(composed))
            return
        except ConfigError as error:
            wrong.append(str(explained(error, overrides, config)))
    if wrong:
        raise ConfigError("; ".join(dict.fromkeys(wrong)))


def explained(error: BaseException, overrides: Sequence[str], config: Any) -> ConfigError:
    """A mistake in a job's config, in one line that names the row if it is the row's."""
    return ConfigError(naming_row(explain(error), overrides, rows_of(config), experiment_of(config.hydra)))


def _without_hydra(config: DictConfig) -> DictConfig:
    """A composed config without Hydra's own, as a job is given it."""
    own = copy.deepcopy(config)
    with flag_override(own, ["struct", "readonly"], False):
        del own["hydra"]
    return own
