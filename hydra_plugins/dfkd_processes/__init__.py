"""``hydra/launcher=processes``: a sweep's jobs as processes of their own (`dfkd_exp.sweeps.jobs`).

It stands here because Hydra takes launchers from the package ``hydra_plugins`` alone. Hydra imports it in a way of its own, in which
a dataclass cannot have its annotations postponed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig


@dataclass
class ProcessesConf:
    _target_: str = "hydra_plugins.dfkd_processes.ProcessesLauncher"
    jobs: int | None = None
    """At once; empty: one per GPU, or per trainer.devices of them, or one on a machine without."""


ConfigStore.instance().store(group="hydra/launcher", name="processes", node=ProcessesConf, provider="dfkd_exp")


class ProcessesLauncher(Launcher):
    """Every job is the command again, with its own overrides and its own folder in the sweep's."""

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = jobs
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        self.config = config

    @property
    def at_once(self) -> int:
        """How many jobs run side by side."""
        return self.jobs or max(1, len(self._gpus()))

    def _gpus(self) -> list[str]:
        """A group of GPUs for each job: one, or as many as its run uses."""
        from dfkd_exp.sweeps.jobs import devices, in_groups

        assert self.config is not None
        found = devices()
        wanted = self.config.trainer.devices or max(1, len(found))
        return in_groups(found, wanted)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from dfkd_exp.errors import ConfigError, DfkdError
        from dfkd_exp.report.status import read_sweep
        from dfkd_exp.sweeps.callback import failures
        from dfkd_exp.sweeps.jobs import Job, run_jobs, single_run

        assert self.config is not None
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError(f"hydra.launcher.jobs must be at least 1, or empty, got {self.jobs}")
        sweep = Path(self.config.hydra.sweep.dir).absolute()
        jobs = []
        planned = {status.folder: status.title for status in read_sweep(sweep)}
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            folder = sweep / str(number)
            arguments = single_run(overrides, self.config.hydra, folder)
            jobs.append(Job(planned.get(folder) or " ".join(filter_overrides(overrides)), folder, arguments))
        codes = run_jobs(jobs, self.at_once, self._gpus())
        if any(codes):
            failures.append(DfkdError(f"{sum(map(bool, codes))} jobs failed"))
        # A failure that is returned to Hydra ends the sweep without its table.
        return [JobReturn(overrides=list(o), status=JobStatus.COMPLETED) for o in job_overrides]
