"""What a sweep is going to run: its jobs, each with what its row sets, written down before the first begins."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, flag_override

from dfkd_exp import console
from dfkd_exp.config.errors import explain
from dfkd_exp.config.rows import chosen, naming_row, with_row
from dfkd_exp.config.typed import experiment_of, rows_of, typed
from dfkd_exp.config.words import words_of
from dfkd_exp.errors import ConfigError
from dfkd_exp.ranks import ranks_of_process
from dfkd_exp.run_folder import plan_sweep


def plan_jobs(folder: Path, grid: Sequence[Sequence[str]], config: Any) -> list[list[str]]:
    """The jobs of a ``grid`` with their rows' overrides, each once, written into the sweep's ``folder``; ``config`` is the sweep's,
    composed.

    ConfigError for a row that there is not, or that a flag contradicts."""
    rows, experiment = rows_of(config), experiment_of(config.hydra)
    told = [tuple(with_row(job, rows, experiment)) for job in grid]
    jobs = [list(job) for job in dict.fromkeys(told)]
    if ranks_of_process().first:
        used = {chosen(job) for job in jobs}
        words = words_of(dict.fromkeys(override for job in jobs for override in job))
        plan_sweep(folder, jobs, [row.plain() for row in rows if row.name in used], words)
        if same := len(told) - len(jobs):
            are = "jobs are the same as others and are" if same > 1 else "job is the same as another and is"
            console.note(f"{same} {are} left out")
    return jobs


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
