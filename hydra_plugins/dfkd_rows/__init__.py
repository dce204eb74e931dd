"""``hydra/sweeper=rows``, the default: a grid as Hydra's own, in which a row of the experiment (`dfkd_exp.config.rows`) is one value.

It stands here because Hydra takes sweepers from the package ``hydra_plugins`` alone. Hydra imports it in a way of its own, in which
a dataclass cannot have its annotations postponed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore


@dataclass
class RowsConf(BasicSweeperConf):
    _target_: str = "hydra_plugins.dfkd_rows.RowSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="rows", node=RowsConf, provider="dfkd_exp")


class RowSweeper(BasicSweeper):
    """Hydra's grid; where no row is said, over every row of the experiment; with each row's overrides in the place of its name alone."""

    def setup(self, *, hydra_context: Any, **others: Any) -> None:
        """As Hydra does, but that a job is not composed where a copy of another's config will do."""
        from dfkd_exp.config.composition import JobConfigs

        hydra_context.config_loader.load_sweep_config = JobConfigs(hydra_context).load
        super().setup(hydra_context=hydra_context, **others)

    def _parse_config(self) -> list[str]:
        """The grid of the config, over rows first, so that a table's rows come in its order."""
        assert self.config is not None
        rows = self.config.row or ",".join(row.name for row in self.config.rows)
        params = {"row": rows, **self.params} if rows else self.params
        return [f"{name}={value}" for name, value in params.items()]

    def split_arguments(  # type: ignore[override]  # Hydra's needs no config
        self, overrides: list[Any], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        from dfkd_exp.sweeps.plan import plan_jobs, require_values

        require_values(overrides)
        assert self.config is not None
        assert self.hydra_context is not None
        compose = partial(self.hydra_context.config_loader.load_sweep_config, self.config)
        [grid] = BasicSweeper.split_arguments(overrides, None)
        jobs = plan_jobs(Path(self.config.hydra.sweep.dir), grid, self.config, compose)
        return list(BasicSweeper.split_overrides_to_chunks(jobs, max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose each job, as Hydra does; a mistake in a row is said with the row's name, and one that all jobs share is said once."""
        from dfkd_exp.config.errors import CONFIG_ERRORS
        from dfkd_exp.sweeps.plan import explained, require_one_right

        assert self.hydra_context is not None
        assert self.config is not None
        configs = []
        for overrides in batch:
            try:
                configs.append(self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides)))
            except CONFIG_ERRORS as error:
                raise explained(error, overrides, self.config) from error
        require_one_right(batch, configs, self.config)
