"""The transfer set of a student in the loop: batches of images, each made for what the student is by then."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dfkd_exp.distillation.pool import IN_MEMORY, Pool, PoolInFiles
from dfkd_exp.reconstruction.loop import STORED
from dfkd_exp.reconstruction.objective import Objective
from dfkd_exp.reconstruction.optimizers import Optimizer
from dfkd_exp.reconstruction.synthesiser import Synthesiser
from dfkd_exp.seeding import derive_seed
from dfkd_exp.training.batches import batches
from dfkd_exp.training.schedules import half_cosine
from dfkd_exp.training.transfer_set import Batch, TransferSet

if TYPE_CHECKING:
    from dfkd_exp.distillation.synthesis import Synthesis


class Synthesised(TransferSet):
    """Images by an ``objective()``, which is built when the first of them is asked for."""

    title = "images made while it learns"

    def __init__(
        self, settings: Synthesis, objective: Callable[[], Objective], optimizer: Optimizer, identity: dict[str, Any],
        num_bytes: int, seed: int, epochs: int = 1,
    ):  # fmt: skip
        self.settings, self.seed, self.identity, self.num_bytes = settings, seed, identity, num_bytes
        self.epochs = epochs
        """Of the student's training, over which a learning rate falls."""
        self._objective, self._optimizer = objective, optimizer
        self._student: nn.Module | None = None
        self._folder: Path | None = None
        self._left: Callable[[], dict[str, Tensor]] | None = None
        """Reads the state of an earlier training, until somebody wants to see an image."""
        self._last: Batch | None = None
        """The batch that was made last."""

    def __len__(self) -> int:
        assert self.settings.images is not None  # `Synthesis.transfer_set` has said how many
        return self.settings.images

    @cached_property
    def synthesiser(self) -> Synthesiser:
        objective, settings = self._objective(), self.settings
        metadata = objective.metadata
        groups = settings.num_groups(1 if metadata.mixes_classes else metadata.num_classes)
        size = settings.batch_size // groups
        return Synthesiser(objective, self._optimizer, groups, size, settings.steps, self.seed, settings.clip)

    @cached_property
    def _pool(self) -> Pool:
        size, shape = self.settings.pool, self.synthesiser.objective.metadata.inputs.shape
        if self._folder is None or size * math.prod(shape) * STORED.itemsize <= IN_MEMORY:
            return Pool(size)
        return PoolInFiles(size, self._folder / "pool", shape)

    @property
    def image_steps(self) -> int:
        return self.synthesiser.made * self.settings.batch_size * self.settings.steps

    @property
    def has_labels(self) -> bool:
        return self.synthesiser.objective.problem.of_classes

    @property
    def so_far(self) -> str:
        return f"{self.synthesiser.made * self.settings.batch_size:,} images made"

    def keep_in(self, folder: Path) -> None:
        self._folder = folder

    def take_up(self, left: Callable[[], dict[str, Tensor]]) -> None:
        self._left = left

    def adapt(self, student: nn.Module) -> None:
        self._student = student

    def batches(self, epoch: int, size: int, seed: int) -> Iterator[Batch]:
        shown = batches(torch.arange(len(self)), size)
        num_made = -(-self.epochs * len(shown) // self.settings.student_steps)
        for step, index in enumerate(shown, epoch * len(shown)):  # a batch may be shown for longer than an epoch
            if self._last is None or step % self.settings.student_steps == 0:
                cosine = self.settings.schedule == "cosine"
                self._make(half_cosine(self.synthesiser.made / num_made) if cosine else 1.0)
            assert self._last is not None
            yield self._shown(self._last, len(index), derive_seed(seed, "shown", step))

    def sample(self, size: int, seed: int) -> Iterator[Batch]:
        """Of the pool, of the batch that was made last, or of other latents of a generator that is kept; for as long as somebody asks."""
        if self._left is not None:
            self.load_state(self._left())
            self._left = None
        for number in itertools.count():
            yield self._like_those(size, derive_seed(seed, "sample", number)).to(torch.device("cpu"))

    def _like_those(self, size: int, seed: int) -> Batch:
        space, generator = self.synthesiser.objective.space, torch.Generator().manual_seed(seed)
        if len(self._pool):
            return self._pool.drawn(size, generator)
        if self._last is None or (space.shared() and not space.renews):
            return self._batch(*self.synthesiser.others(size, seed))
        return self._last.take(torch.randperm(len(self._last), generator=generator)[:size])

    def state(self) -> dict[str, Tensor]:
        return {**self._pool.state(), **self._state()}

    def left(self) -> dict[str, Tensor]:
        return {**self._pool.left(), **self._state()}

    def _state(self) -> dict[str, Tensor]:
        """Of all but the pool."""
        last = {} if self._last is None else {"last.pixels": self._last.pixels}
        if self._last is not None and self._last.labels is not None:
            last["last.labels"] = self._last.labels
        return {**self.synthesiser.state(), **last}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.synthesiser.load_state(state)
        if "pool.pixels" in state:  # such as what is left of one whose files are gone
            self._pool = Pool(self.settings.pool)
        self._pool.load_state(state)
        if "last.pixels" in state:
            self._last = Batch(state["last.pixels"], state.get("last.labels"))

    def _make(self, rate: float) -> None:
        self._last = self._batch(*self.synthesiser.make(self._student, rate))
        if self.settings.pool:
            self._pool.add(self._last)

    def _batch(self, pixels: Tensor, labels: Tensor) -> Batch:
        return Batch(pixels, labels if self.has_labels else None)

    def _shown(self, made: Batch, count: int, seed: int) -> Batch:
        """So many images: of the batch that was made, of the pool, or of other latents."""
        if self.settings.fresh:
            return self._batch(*self.synthesiser.others(count, seed))
        generator = torch.Generator().manual_seed(seed)
        if self.settings.pool:
            return self._pool.drawn(count, generator)
        if count == len(made):
            return made
        rounds = [torch.randperm(len(made), generator=generator) for _ in range(-(-count // len(made)))]
        return made.take(torch.cat(rounds)[:count])
