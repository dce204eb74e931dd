"""``hydra/sweeper=study``: a search for hyper-parameters (`dfkd_exp.sweeps.search`).

It stands here because Hydra takes sweepers from the package ``hydra_plugins`` alone. Hydra imports it in a way of its own, in which
a dataclass cannot have its annotations postponed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig


@dataclass
class StudyConf:
    _target_: str = "hydra_plugins.dfkd_study.StudySweeper"
    study: str = ""
    """Name of the study: outputs/studies/STUDY.journal; empty: the name of the runs."""
    trials: int = 20
    """How many, in all workers and repetitions together."""
    objective: str = "agreement_mixed"
    """What is searched for: agreement_mixed and reconstruction_loss need no data; agreement and accuracy look at the test set."""
    sampler: str = "tpe"
    """tpe or random."""
    seed: int = 0
    """Of the sampler."""
    prune: bool = False
    """End a trial whose agreement, at a tenth, two tenths, … of the student's training, is below the median of the others there."""
    params: dict[str, Any] = field(default_factory=dict)
    """Flags and what is tried for them, as on the command line."""


ConfigStore.instance().store(group="hydra/sweeper", name="study", node=StudyConf, provider="dfkd_exp")


class StudySweeper(Sweeper):
    """Asks a study for trials, has Hydra's launcher run them, and tells it what came of them."""

    def __init__(
        self, study: str, trials: int, objective: str, sampler: str, seed: int, prune: bool, params: Any
    ) -> None:
        self.study, self.trials, self.objective = study, trials, objective
        self.sampler, self.seed, self.prune, self.params = sampler, seed, prune, params
        self.config: DictConfig | None = None
        self.hydra_context: Any = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from dfkd_exp import console
        from dfkd_exp.config.errors import CONFIG_ERRORS
        from dfkd_exp.config.overrides import key_of
        from dfkd_exp.config.rows import with_row
        from dfkd_exp.config.typed import at_home, experiment_of, rows_of
        from dfkd_exp.sweeps.plan import explained, require_values
        from dfkd_exp.sweeps.search import Search, space_and_fixed

        assert self.config is not None
        assert self.launcher is not None
        said = set(map(key_of, arguments))
        params = [f"{name}={value}" for name, value in self.params.items() if key_of(name) not in said]
        parsed = OverridesParser.create().parse_overrides([*params, *arguments])
        require_values(parsed)
        space, fixed = space_and_fixed(parsed)
        folder = Path(self.config.hydra.sweep.dir)
        path = Path(at_home(self.config.outputs)) / "studies" / f"{self.study or folder.parent.name}.journal"
        search = Search(
            path, space, fixed, self.objective, self.trials, self.sampler, self.seed, self.prune
        )  # fmt: skip
        started, rows, experiment = 0, rows_of(self.config), experiment_of(self.config.hydra)

        def job(overrides: Sequence[str]) -> list[str]:
            assert self.config is not None
            return with_row(overrides, rows, experiment, self.config.row)

        try:  # before a trial is asked for, which would be left behind
            self.hydra_context.config_loader.load_sweep_config(self.config, job(search.fixed))
        except CONFIG_ERRORS as error:
            raise explained(error, job(search.fixed), self.config) from error

        def launch(jobs: Sequence[Sequence[str]]) -> list[Path]:
            nonlocal started
            first = started
            started += len(jobs)
            search.note(folder)  # for the report of a search that is stopped, or still runs
            assert self.launcher is not None
            self.launcher.launch([job(overrides) for overrides in jobs], initial_job_idx=first)
            return [folder / str(number) for number in range(first, started)]

        search.run(launch, at_once=getattr(self.launcher, "at_once", 1))
        search.note(folder)
        console.show(search.summary())
