"""Training under Lightning, for teachers and students alike: a thin shell around a network and a loss."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from dfkd_exp.console import Progress
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import write_atomically
from dfkd_exp.ranks import Ranks, ranks_of_process
from dfkd_exp.seeding import derive_seed
from dfkd_exp.training.batches import batches
from dfkd_exp.training.settings import Training
from dfkd_exp.training.transfer_set import Batch, TransferSet

Loss = Callable[[nn.Module, tuple[Tensor, ...]], Tensor]
"""The loss of a network on what it is shown and asked for: a scalar."""

Prepare = Callable[[Batch, Tensor, Tensor | None], tuple[Tensor, ...]]
"""What the network is shown and asked for in some ``rows`` of a batch, or in all, from its images and uniform random numbers
``[N, num_random]``, as many as the augmentation wants: made for many batches at once, without gradients."""


def as_they_are(batch: Batch, uniform: Tensor, rows: Tensor | None) -> tuple[Tensor, ...]:
    """Pixels and labels: what a network is shown and asked for where nothing is done to them."""
    own = batch.take(rows)
    assert own.labels is not None
    return own.pixels, own.labels


@dataclass(frozen=True)
class Epoch:
    """A transfer set's batches in an epoch, ``size`` images each, as a loader of data: made when they are asked for."""

    images: TransferSet
    number: int
    size: int
    seed: int

    def __len__(self) -> int:
        return len(batches(torch.arange(len(self.images)), self.size))

    def __iter__(self) -> Iterator[Batch]:
        return self.images.batches(self.number, self.size, self.seed)


@dataclass(frozen=True)
class Share:
    """One process's share of a chunk's batches: the ``rows`` of the chunk, batch by batch, how many are of each, and the weight
    with which their mean loss enters the average over the processes."""

    rows: Tensor
    sizes: list[int]
    weights: list[float]

    @classmethod
    def of(cls, num_rows: int, batch_size: int, ranks: Ranks) -> Share:
        """Every ``world``-th row of each batch. A batch with fewer rows than processes is seen whole by all: all must take part in every
        step."""
        rows, sizes, weights = [], [], []
        for batch in batches(torch.arange(num_rows), batch_size):
            whole = len(batch) < ranks.world
            rows.append(batch if whole else batch[ranks.rank :: ranks.world])
            sizes.append(len(rows[-1]))
            weights.append(1.0 if whole else sizes[-1] * ranks.world / len(batch))
        return cls(torch.cat(rows), sizes, weights)


class TrainingModule(pl.LightningModule):
    """``network`` trained on ``images`` by ``loss(network, batch)``. The state_dict is the network's and nothing else.

    What Lightning takes for a batch is a chunk of ``batches_per_chunk`` of ours, since each of its steps costs more than a
    step of a small network. How many they are changes nothing but rounding. Nor does the number of processes: each takes its
    share of every batch, and the gradients are averaged over the batch's images.
    """

    def __init__(
        self,
        network: nn.Module,
        images: TransferSet,
        loss: Loss,
        settings: Training,
        seed: int,
        progress: Progress,
        prepare: Prepare = as_they_are,
        batches_per_chunk: int = 1,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.images, self.loss, self.settings, self.seed, self.progress = images, loss, settings, seed, progress
        self.prepare, self.batches_per_chunk = prepare, batches_per_chunk
        self.ranks = ranks_of_process()
        self._losses: list[Tensor] = []

    def train_dataloader(self) -> Epoch:
        """Asked for anew each epoch, so that a resumed training sees the batches that it would have seen."""
        return Epoch(self.images, self.current_epoch, self.batches_per_chunk * self.settings.batch_size, self.seed)

    def on_fit_start(self) -> None:
        self.images = self.images.on(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["transfer_set"] = self.images.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.images.load_state(checkpoint["transfer_set"])

    def on_train_start(self) -> None:
        self.progress.skip(self.trainer.global_step)

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator, batch by batch; what is drawn by the chunk has one of its own.
        own = (self.ranks.rank,) if self.ranks.rank else ()
        torch.manual_seed(derive_seed(self.seed, "epoch", self.current_epoch, *own))
        self._generator = torch.Generator().manual_seed(derive_seed(self.seed, "prepare", self.current_epoch))
        self.images.adapt(self.network)

    def training_step(self, chunk: Batch, *_: Any) -> None:
        optimizer: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        uniform = torch.rand(len(chunk), self.settings.augmentation.num_random, generator=self._generator)
        share = Share.of(len(uniform), self.settings.batch_size, self.ranks)
        with torch.no_grad():
            prepared = self.prepare(chunk, uniform, share.rows if self.ranks.world > 1 else None)
        parts = list(zip(*(tensor.split(share.sizes) for tensor in prepared), strict=True))
        for batch, weight in zip(parts, share.weights, strict=True):
            optimizer.zero_grad()
            loss = self.loss(self.network, batch)
            loss = loss if weight == 1 else loss * weight
            with torch.autocast(self.device.type, enabled=False):  # it is for the forward pass
                self.manual_backward(loss)
                if self.settings.clip is not None:
                    scaler = getattr(self.trainer.precision_plugin, "scaler", None)  # of gradients in float16
                    scale = 1.0 if scaler is None else scaler.get_scale()
                    nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip * scale)
                optimizer.step()
            schedule.step()
            self._losses.append(loss.detach())
        self.progress.advance(len(parts), self.images.so_far)

    def on_train_epoch_end(self) -> None:
        self.log("loss", torch.stack(self._losses).mean(), sync_dist=self.ranks.world > 1)
        self._losses.clear()

    def configure_optimizers(self) -> Any:
        optimizer = self.settings.optimizer.build(self.network)
        schedule = self.settings.schedule.build(optimizer, self.settings.num_steps(len(self.images)))
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def part_ended(trainer: pl.Trainer, times: int) -> int | None:
    """Which part of the training, 1, 2, … of ``times`` equal ones, the current epoch ends; None if it ends none."""
    assert trainer.max_epochs is not None
    before, now = (times * epoch // trainer.max_epochs for epoch in (trainer.current_epoch, trainer.current_epoch + 1))
    return now if before < now else None


class Watch(pl.Callback):
    """Calls ``look(part)``, part = 1, 2, …, at the end of the epochs that divide the training into ``times`` parts, but the last."""

    def __init__(self, look: Callable[[int], None], times: int = 10):
        self.look, self.times = look, times

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        part = part_ended(trainer, self.times)
        if part is not None and part < self.times:
            pl_module.eval()
            self.look(part)
            pl_module.train()


class Snapshots(pl.Callback):
    """Keeps the network as it is at the end of ``times`` epochs, the last among them: ``content(network)`` at ``path(epoch)``, counted
    from 1.

    ``kept``: of each its ``epoch``, the ``seconds`` of the ``clock``, and the ``image_steps`` that the transfer set
    had taken. They are part of the training's resume point, which comes after this among the callbacks: one that is continued goes on from
    the seconds that stood there, and those of what was lost after it are counted nowhere.
    """

    def __init__(
        self, times: int, path: Callable[[int], Path], content: Callable[[nn.Module], bytes], clock: Callable[[], float]
    ):
        self.times, self.path, self.content, self._clock, self._before = times, path, content, clock, 0.0
        self.kept: list[dict[str, Any]] = []
        self._sums: list[str] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if part_ended(trainer, self.times) is None:
            return
        assert isinstance(pl_module, TrainingModule)
        epoch, steps = trainer.current_epoch + 1, pl_module.images.image_steps
        self.kept.append({"epoch": epoch, "seconds": self._before + self._clock(), "image_steps": steps})
        if ranks_of_process().first:
            content = self.content(pl_module.network)
            self.path(epoch).parent.mkdir(exist_ok=True)
            write_atomically(self.path(epoch), content)
            self._sums.append(hashlib.sha256(content).hexdigest())

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept, "sums": self._sums, "seconds": self._before + self._clock()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kept, self._sums = list(state_dict["kept"]), list(state_dict["sums"])
        self._before += state_dict["seconds"]
        for snapshot, expected in zip(self.kept, self._sums, strict=True):
            path = self.path(snapshot["epoch"])
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
                raise DfkdError(
                    f"{path} is not as it was written; remove {path.parents[1]}, and the same command trains anew"
                )


class ResumePoint(pl.Callback):
    """Saves the training at the end of an epoch, not more often than every ``seconds``, for a killed run to continue."""

    def __init__(self, path: Path, seconds: float = 15.0):
        self.path, self.seconds = path, seconds
        self._last = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        due = ranks_of_process().agreed(lambda: time.monotonic() - self._last >= self.seconds)
        if due and not is_last:
            trainer.save_checkpoint(self.path)
            self._last = time.monotonic()
