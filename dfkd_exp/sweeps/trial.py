"""A trial in the process that runs it, and the file of its study, which it and the search (search.py) share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp.errors import DfkdError

if TYPE_CHECKING:
    import optuna

TRIAL = "DFKD_TRIAL"
"""Set for a job whose trial may be pruned: the study's file and the trial's number."""


def optuna_module() -> Any:
    """Optuna, or a DfkdError that says how to get it."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise DfkdError("hydra/sweeper=study needs Optuna: pip install 'dfkd_exp[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass
class RunningTrial:
    """A trial's place in its study, for the job that runs it."""

    path: Path
    number: int

    def report(self, value: float, part: int) -> str | None:
        """The objective at the ``part``-th moment of the training; why the trial is to end, if the others' median was better there."""
        import optuna

        study = open_study(self.path)
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
        trial = optuna.Trial(study, study.get_trials(deepcopy=False)[self.number]._trial_id)
        trial.report(value, part)
        if not trial.should_prune():
            return None
        return f"agreement {100 * value:.2f} % after {part} tenths of the training is below the other trials' median"


def trial_of_process() -> RunningTrial | None:
    """The trial that this process runs, if its search prunes."""
    said = os.environ.get(TRIAL)
    if said is None:
        return None
    path, _, number = said.rpartition(":")
    return RunningTrial(Path(path), int(number))


def open_study(path: Path) -> optuna.Study:
    """The study in a file that a search has written."""
    return optuna_module().load_study(study_name=path.stem, storage=storage(path))


@contextmanager
def without_warnings() -> Iterator[None]:
    """Optuna calls some of what is used here experimental, once for each use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna_module().exceptions.ExperimentalWarning)
        yield


def storage(path: Path) -> Any:
    optuna = optuna_module()
    from optuna.storages.journal import JournalFileBackend

    with without_warnings():
        return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
