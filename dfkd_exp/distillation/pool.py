"""Made images that are kept, and shown again."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from torch import Tensor

from dfkd_exp.errors import DfkdError
from dfkd_exp.reconstruction.loop import STORED
from dfkd_exp.training.transfer_set import Batch

IN_MEMORY = 2**26
"""Bytes of a pool that is kept in memory, and in each checkpoint; a larger one lies in files."""
PART_BYTES = 2**24
"""Of each of these files, about."""
LEFT = 2_000
"""Images that are left of a pool after the training, to look at."""


class Pool:
    """The ``size`` images that were made last, in float16, where they were made."""

    def __init__(self, size: int):
        self.size, self.count = size, 0
        """``count``: images that were ever added."""
        self._pixels = torch.empty(0)
        self._labels = torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return min(self.size, self.count)

    def add(self, made: Batch) -> None:
        """Add images, in the place of the oldest ones once it is full."""
        if not len(self._labels):
            self._labels = torch.full((self.size,), -1)
        self._labels = self._labels.to(self._device_of(made))  # what was read from a checkpoint is on the CPU
        places = (self.count + torch.arange(len(made), device=self._labels.device)) % self.size
        self._keep(made.pixels, places)
        if made.labels is not None:
            self._labels[places] = made.labels.to(self._labels.device)
        self.count += len(made)

    def drawn(self, count: int, generator: torch.Generator) -> Batch:
        """``count`` images at random."""
        return self._taken(torch.randint(len(self), (count,), generator=generator))

    def state(self) -> dict[str, Tensor]:
        """All of it that lies in no files, by name; nothing if nothing is kept."""
        if not self.size:
            return {}
        return {"pool.pixels": self._pixels, "pool.labels": self._labels, "pool.count": torch.tensor(self.count)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` or `left` returned."""
        if self.size:
            self._labels, self.count = state["pool.labels"], int(state["pool.count"])
            self._pixels = state["pool.pixels"]
            self.size = len(self._labels)

    def left(self) -> dict[str, Tensor]:
        """The state of a pool of some of the images, for when the training is over and its files are gone."""
        return self.state() if len(self) <= LEFT else self._some()

    def _some(self) -> dict[str, Tensor]:
        some = self._taken(torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:LEFT])
        labels = torch.full((len(some),), -1) if some.labels is None else some.labels
        return {"pool.pixels": some.pixels.to(STORED), "pool.labels": labels, "pool.count": torch.tensor(len(some))}

    def _device_of(self, made: Batch) -> torch.device:
        return made.pixels.device

    def _keep(self, pixels: Tensor, places: Tensor) -> None:
        if not len(self._pixels):
            self._pixels = pixels.new_empty(self.size, *pixels.shape[1:], dtype=STORED)
        self._pixels = self._pixels.to(pixels.device)
        self._pixels[places] = pixels.to(STORED)

    def _pixels_at(self, places: Tensor) -> Tensor:
        return self._pixels[places]

    def _taken(self, places: Tensor) -> Batch:
        places = places.to(self._labels.device)
        labels = self._labels[places]
        return Batch(self._pixels_at(places).float(), labels if bool((labels >= 0).all()) else None)


class PoolInFiles(Pool):
    """The same, whose pixels lie in files of a ``folder``, mapped into memory; images are of ``shape``.

    A checkpoint says how many images there were; the files have them. For a training that is continued from a checkpoint to find all
    that it had then, nothing is written over: images are numbered and lie in the order of their numbers, a file has so many of them, and is
    removed when it has none that the last two checkpoints need, of which one may never have been written. All processes of a run write the
    same bytes to the same places, so that none need wait for another.
    """

    def __init__(self, size: int, folder: Path, shape: tuple[int, ...]):
        super().__init__(size)
        self.folder, self.shape = folder, shape
        self._rows = max(1, min(size, PART_BYTES // (STORED.itemsize * math.prod(shape))))
        """Images in a file."""
        self._parts: dict[int, Tensor] = {}
        self._touched: set[int] = set()
        self._saved: list[int] = []
        """How many images there were at the last two checkpoints."""

    def state(self) -> dict[str, Tensor]:
        for part in (
            self._touched & self._parts.keys()
        ):  # what the checkpoint says is there must be there after a power cut
            with self._path(part).open("rb") as file:
                os.fsync(file.fileno())
        self._touched.clear()
        self._saved = [*self._saved, self.count][-2:]
        return {"pool.labels": self._labels, "pool.count": torch.tensor(self.count)}

    def left(self) -> dict[str, Tensor]:
        return self._some()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._labels, self.count = state["pool.labels"], int(state["pool.count"])
        self._saved = [self.count]
        num_bytes = self._rows * math.prod(self.shape) * STORED.itemsize
        for part in range((self.count - len(self)) // self._rows, -(-self.count // self._rows)):
            path = self._path(part)
            if not path.is_file() or path.stat().st_size != num_bytes:
                raise DfkdError(
                    f"{path} is not as the checkpoint beside it says, so that the training cannot be continued; remove {self.folder.parent}"
                )

    def _device_of(self, made: Batch) -> torch.device:
        return torch.device("cpu")

    def _keep(self, pixels: Tensor, places: Tensor) -> None:
        pixels = pixels.to(STORED).cpu()
        numbers = self.count + torch.arange(len(pixels))
        for part in (numbers // self._rows).unique().tolist():
            mine = numbers // self._rows == part
            self._part(part)[numbers[mine] % self._rows] = pixels[mine]
            self._touched.add(part)
        oldest = min([self.count + len(pixels), *self._saved]) - self.size
        for part in [part for part in self._parts if (part + 1) * self._rows <= oldest]:
            del self._parts[part]
            self._path(part).unlink(missing_ok=True)

    def _pixels_at(self, places: Tensor) -> Tensor:
        numbers = self.count - 1 - (self.count - 1 - places) % self.size  # the last to have been given each place
        pixels = torch.empty(len(places), *self.shape, dtype=STORED)
        for part in (numbers // self._rows).unique().tolist():
            mine = numbers // self._rows == part
            pixels[mine] = self._part(part)[numbers[mine] % self._rows]
        return pixels

    def _part(self, number: int) -> Tensor:
        if number not in self._parts:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._path(number).touch()  # with the usual rights; torch makes files that only their owner can read
            count = self._rows * math.prod(self.shape)
            mapped = torch.from_file(str(self._path(number)), shared=True, size=count, dtype=STORED)
            self._parts[number] = mapped.view(self._rows, *self.shape)
        return self._parts[number]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.f16"
