"""Reconstruction under Lightning: ``trainer.predict`` over group indices; shards are written as they are done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter

from dfkd_exp.console import Progress
from dfkd_exp.reconstruction.engine.settings import ResolvedEngine
from dfkd_exp.reconstruction.loop import Images, reconstruct_groups
from dfkd_exp.reconstruction.objective import Objective
from dfkd_exp.reconstruction.optimizers import Optimizer
from dfkd_exp.reconstruction.problem import Problem
from dfkd_exp.reconstruction.shards import shard_name, write_shard


class ReconstructionModule(pl.LightningModule):
    """A batch is a list of group indices; a prediction is their `Images`. Of several processes each is given its own batches."""

    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(self, problem: Problem, optimizer: Optimizer, engine: ResolvedEngine, seed: int, progress: Progress):
        super().__init__()
        # The teacher is a module of this one, which Lightning takes to its device.
        self.problem, self.teacher = problem, problem.teacher
        self.optimizer, self.engine, self.seed, self.progress = optimizer, engine, seed, progress

    def on_predict_start(self) -> None:
        self.objective = Objective(self.problem, self.engine)

    def predict_step(self, batch: list[int], *_: Any) -> Images:
        return reconstruct_groups(self.objective, batch, self.optimizer, self.seed, self.progress.advance)


class ShardWriter(BasePredictionWriter):
    """Writes each batch of groups to a file of its own, whole or not at all: what a killed run had finished stays."""

    def __init__(self, folder: Path):
        super().__init__("batch")
        self.folder = folder

    def write_on_batch_end(
        self, trainer: Any, pl_module: Any, prediction: Images, batch_indices: Any, batch: Any, *_: Any
    ) -> None:
        write_shard(self.folder / shard_name(batch), prediction)
