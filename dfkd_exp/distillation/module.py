"""Training under Lightning, for teachers and students alike: a thin shell around a network and a loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from dfkd_exp.console import Progress
from dfkd_exp.distillation.settings import Training
from dfkd_exp.seeding import derive_seed

Loss = Callable[[nn.Module, tuple[Tensor, ...]], Tensor]
"""The loss of a network on a batch: a scalar."""


class TensorBatches:
    """Shuffled slices of tensors, on the device that these lie on; the order depends on the seed alone."""

    def __init__(self, tensors: tuple[Tensor, ...], batch_size: int, seed: int):
        self.tensors, self.batch_size, self.seed = tensors, batch_size, seed

    def __len__(self) -> int:
        return -(-len(self.tensors[0]) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(self.tensors[0]), generator=generator).to(self.tensors[0].device)
        for index in order.split(self.batch_size):
            # Of large images on a CPU, 25 times as fast as tensor[index].
            yield tuple(tensor.index_select(0, index) for tensor in self.tensors)


def near(tensors: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """``tensors`` on ``device`` if they fill at most half of its free memory; else as they are, and Lightning takes each batch
    there."""
    if sum(tensor.nbytes for tensor in tensors) > free_bytes(device) / 2:
        return tensors
    return tuple(tensor.to(device) for tensor in tensors)


def free_bytes(device: torch.device) -> float:
    """Free memory of an accelerator. A CPU has no end of it: what is not in memory is mapped into it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return math.inf


class TrainingModule(pl.LightningModule):
    """``network`` trained on ``tensors`` by ``loss(network, batch)``. The state_dict is the network's and nothing else."""

    def __init__(
        self,
        network: nn.Module,
        tensors: tuple[Tensor, ...],
        loss: Loss,
        settings: Training,
        seed: int,
        progress: Progress,
    ):
        super().__init__()
        self.network = network
        self.tensors, self.loss, self.settings, self.seed, self.progress = tensors, loss, settings, seed, progress
        self._losses: list[Tensor] = []

    def train_dataloader(self) -> TensorBatches:
        """Asked for anew each epoch, so that a resumed training sees the batches that it would have seen."""
        return self._batches(self.current_epoch)

    def _batches(self, epoch: int) -> TensorBatches:
        return TensorBatches(self.tensors, self.settings.batch_size, derive_seed(self.seed, "order", epoch))

    def on_fit_start(self) -> None:
        self.tensors = near(self.tensors, self.device)

    def on_train_start(self) -> None:
        self.progress.skip(self.trainer.global_step)

    def on_train_epoch_start(self) -> None:
        # Dropout and augmentation draw from the global generator.
        torch.manual_seed(derive_seed(self.seed, "epoch", self.current_epoch))

    def training_step(self, batch: tuple[Tensor, ...], *_: Any) -> Tensor:
        loss = self.loss(self.network, batch)
        self._losses.append(loss.detach())
        self.progress.advance()
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("loss", torch.stack(self._losses).mean())
        self._losses.clear()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(
            self.network.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay, fused=True
        )
        if self.settings.schedule == "constant":
            return optimizer
        steps = self.settings.epochs * len(self._batches(0))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ResumePoint(pl.Callback):
    """Saves the training at the end of an epoch, not more often than every ``seconds``, for a killed run to continue."""

    def __init__(self, path: Path, seconds: float = 15.0):
        self.path, self.seconds = path, seconds
        self._last = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if time.monotonic() - self._last >= self.seconds and not is_last:
            trainer.save_checkpoint(self.path)
            self._last = time.monotonic()
