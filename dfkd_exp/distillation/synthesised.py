"""The transfer set of a student in the loop: batches of images, each made for what the student is by then."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

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
        self._pool = Pool(settings.pool)
        self._last: Batch | None = None
        """The batch that was made last."""

    def __len__(self) -> int:
        return self.settings.images

    @cached_property
    def synthesiser(self) -> Synthesiser:
        objective = self._objective()
        groups = self.settings.batch_size // objective.settings.group_size
        return Synthesiser(objective, self._optimizer, groups, self.settings.steps, self.seed, self.settings.clip)

    @property
    def has_labels(self) -> bool:
        return self.synthesiser.objective.problem.of_classes

    def adapt(self, student: nn.Module) -> None:
        self._student = student

    def batches(self, epoch: int, size: int, seed: int) -> Iterator[Batch]:
        made: Batch | None = None
        shown = batches(torch.arange(len(self)), size)
        num_made = self.epochs * -(-len(shown) // self.settings.student_steps)
        for step, index in enumerate(shown):
            if made is None or step % self.settings.student_steps == 0:
                cosine = self.settings.schedule == "cosine"
                made = self._made(half_cosine(self.synthesiser.made / num_made) if cosine else 1.0)
            yield self._shown(made, len(index), derive_seed(seed, "shown", epoch, step))

    def sample(self, size: int, seed: int) -> Iterator[Batch]:
        """Of the pool, of the batch that was made last, or of other latents of a generator that is kept; for as long as somebody asks."""
        space = self.synthesiser.objective.space
        for number in itertools.count():
            own = derive_seed(seed, "sample", number)
            if len(self._pool):
                yield self._pool.drawn(size, torch.Generator().manual_seed(own))
            elif self._last is None or (space.shared() and not space.renews):
                yield self._batch(*self.synthesiser.others(size, own))
            else:
                yield self._last.take(
                    torch.randperm(len(self._last), generator=torch.Generator().manual_seed(own))[:size]
                )

    def state(self) -> dict[str, Tensor]:
        last = {} if self._last is None else {"last.pixels": self._last.pixels}
        if self._last is not None and self._last.labels is not None:
            last["last.labels"] = self._last.labels
        return {**self.synthesiser.state(), **self._pool.state(), **last}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.synthesiser.load_state(state)
        self._pool.load_state(state)
        if "last.pixels" in state:
            self._last = Batch(state["last.pixels"], state.get("last.labels"))

    def _made(self, rate: float) -> Batch:
        made = self._batch(*self.synthesiser.make(self._student, rate))
        if self.settings.pool:
            self._pool.add(made)
        self._last = made
        return made

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
        return made.take(torch.cat(rounds)[:count].to(made.pixels.device))


class Pool:
    """The ``size`` images that were made last, in float16, as reconstructions are kept."""

    def __init__(self, size: int):
        self.size, self.count = size, 0
        """``count``: images that were ever added."""
        self._pixels = torch.empty(0)
        self._labels = torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return min(self.size, self.count)

    def add(self, made: Batch) -> None:
        """Add images, in the place of the oldest ones once it is full."""
        if not len(self._pixels):
            self._pixels = made.pixels.new_empty(self.size, *made.pixels.shape[1:], dtype=torch.float16)
            self._labels = torch.full((self.size,), -1, device=made.pixels.device)
        places = (self.count + torch.arange(len(made), device=self._pixels.device)) % self.size
        self._pixels[places] = made.pixels.half()
        if made.labels is not None:
            self._labels[places] = made.labels
        self.count += len(made)

    def drawn(self, count: int, generator: torch.Generator) -> Batch:
        """``count`` images at random."""
        index = torch.randint(len(self), (count,), generator=generator).to(self._pixels.device)
        labels = self._labels[index]
        return Batch(self._pixels[index].float(), labels if bool((labels >= 0).all()) else None)

    def state(self) -> dict[str, Tensor]:
        """All of it, by name; nothing if nothing is kept."""
        if not self.size:
            return {}
        return {"pool.pixels": self._pixels, "pool.labels": self._labels, "pool.count": torch.tensor(self.count)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` returned."""
        if self.size:
            self._pixels, self._labels = state["pool.pixels"], state["pool.labels"]
            self.count = int(state["pool.count"])
