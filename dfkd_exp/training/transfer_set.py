"""The transfer set: what a student is taught on, as batches per epoch.

Images are *pixels* throughout, uint8 or floating in [0, 1]; what networks take, *inputs*, `InputSpec.from_pixels` makes of them.
A set is described before an image of it is loaded, so that a run whose student is in the store never loads one; nor torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dfkd_exp.inputs import unit_pixels
from dfkd_exp.seeding import derive_seed
from dfkd_exp.training.batches import batches
from dfkd_exp.training.preview import Preview

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from dfkd_exp.data.rows import Rows

AT_ONCE_BYTES = 2**24
"""Of images that are read at once where each is looked at one time."""
MEAN_OF = 10_000
"""Images of a class whose mean is shown; that of more looks the same."""
PREVIEWED = 500
"""Images that a preview is made from, where they are made and not kept."""


@dataclass(frozen=True)
class Batch:
    """Images: ``pixels[N, *shape]``, their ``labels[N]`` and the teacher's ``logits[N, K]``, if there are any."""

    pixels: Tensor
    labels: Tensor | None = None
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor | None) -> Batch:
        """Those of ``index``, in that order, or all of them."""
        if index is None:
            return self
        return Batch(
            _take(self.pixels, index), *(t if t is None else _take(t, index) for t in (self.labels, self.logits))
        )

    def to(self, device: torch.device) -> Batch:
        return Batch(self.pixels.to(device), *(t if t is None else t.to(device) for t in (self.labels, self.logits)))


class TransferSet(ABC):
    """What a student is taught on. Nothing is loaded or made before it is asked for.

    A method with the student in its loop looks at it in `adapt`, keeps it, and makes each of its `batches` when it is asked for, from
    what the student is by then. Whatever it draws comes from generators seeded by the arguments: the processes of a run must
    make the same batches, of which each takes its share. It leaves the student as it is: weights, gradients and mode.
    """

    title: str
    """In a few words, after "distilled on"."""
    identity: dict[str, Any]
    """JSON-able; equal for equal images. Part of the key of whatever is made from them."""
    num_bytes: int = 0
    """What had to be published, beside the teacher, for the student to see them."""
    follows_student: bool = True
    """Whether batches depend on what the student is at that moment: each is then made when it is its turn, else several at once."""
    logits: Tensor | None = None
    """The teacher's logits of all images, where they are kept beside them."""

    @property
    def real(self) -> bool:
        """Whether they are images of the teacher's owner; else the student's side can make as many as it wants."""
        return False

    @property
    def image_steps(self) -> int:
        """How many times an image was put forward and backward through the teacher, so far, to make these images."""
        return 0

    @abstractmethod
    def __len__(self) -> int:
        """Images per epoch."""

    @property
    def num_images(self) -> int:
        """How many they are, however often an epoch shows them."""
        return len(self)

    @abstractmethod
    def batches(self, epoch: int, size: int, seed: int) -> Iterator[Batch]:
        """The epoch's images in an order of their own, ``size`` at a time, the last of them perhaps fewer; made one by one."""

    def sample(self, size: int, seed: int) -> Iterator[Batch]:
        """Images like those that the student is shown, ``size`` at a time, on the CPU, to look at: what it is shown next stays as it is."""
        import torch

        return (batch.to(torch.device("cpu")) for batch in self.batches(0, size, seed))

    @property
    def has_labels(self) -> bool:
        """Whether the images have labels of their own, beside what the teacher says."""
        return False

    @property
    def so_far(self) -> str:
        """What there is to say of the images while the student learns, in a few words."""
        return ""

    def keep_in(self, folder: Path) -> None:  # noqa: B027
        """Called before a training with a folder that lasts as long as that does, and is there again when it is continued: for what is too
        large to be in `state`."""

    def adapt(self, student: nn.Module) -> None:  # noqa: B027  (nothing is right for most)
        """Called before each epoch with the network in training, in training mode, by which a method may take its state into account."""

    def state(self) -> dict[str, Tensor]:
        """What `adapt` and `batches` have changed, for a training that is continued."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Take up what `state` returned."""

    def left(self) -> dict[str, Tensor]:
        """The state by which `sample` and `preview` work after the training, when its folder is gone."""
        return self.state()

    def take_up(self, left: Callable[[], dict[str, Tensor]]) -> None:  # noqa: B027
        """What was `left` of an earlier training, to be read when `sample` or `preview` needs it."""

    def on(self, device: torch.device) -> TransferSet:
        """This set, with what it keeps brought to ``device`` if there is room."""
        return self

    def with_logits(self, answer: Callable[[Tensor], Tensor]) -> TransferSet:
        """This set with the teacher's logits, ``answer(pixels)``, beside the images if they stay the same; else as it is."""
        return self

    def held_out(self, share: float, seed: int) -> tuple[TransferSet, FixedImages | None]:
        """This set without a random ``share`` of its images, and that share; itself and None where none can be spared."""
        return self, None

    def preview(self, num_classes: int, samples: int) -> Preview:
        """The means of the first ``num_classes`` classes and some ``samples`` of each."""
        first = next(self.sample(min(PREVIEWED, len(self)), seed=0))
        return FixedImages.of(first.pixels, first.labels).preview(num_classes, samples)


@dataclass(frozen=True, eq=False)
class FixedImages(TransferSet):
    """The same images for every epoch. ``load()``: their pixels, as `Rows`, and labels ``[N]`` or None."""

    load: Callable[[], tuple[Rows, Tensor | None]]
    title: str = "images"
    identity: dict[str, Any] = field(default_factory=dict)
    num_bytes: int = 0
    members: Callable[[], Tensor] | None = None
    """Of real images: which of the training set they are, ``[N]`` row numbers in the order of ``load``."""
    chosen: Tensor | None = None
    """Which of the loaded images these are; None: all."""
    logits: Tensor | None = None
    image_steps: int = 0
    per_epoch: int | None = None
    """So many are shown in each, at random, all of them before any comes again in it; None: each once."""
    follows_student = False

    @classmethod
    def of(cls, pixels: Tensor, labels: Tensor | None = None, logits: Tensor | None = None) -> FixedImages:
        """Images that are there: ``pixels[N, *shape]``, ``labels[N]``, the teacher's ``logits[N, K]``."""
        from dfkd_exp.data.rows import Rows

        return cls(lambda: (Rows([pixels]), labels), logits=logits)

    @cached_property
    def _loaded(self) -> tuple[Rows, Tensor | None]:
        return self.load()

    @property
    def _at_once(self) -> int:
        rows, _ = self._loaded
        return max(1, AT_ONCE_BYTES * len(rows) // max(1, rows.nbytes))

    @property
    def real(self) -> bool:
        return self.members is not None

    def __len__(self) -> int:
        return self.per_epoch or self.num_images

    @property
    def num_images(self) -> int:
        return len(self._loaded[0] if self.chosen is None else self.chosen)

    @property
    def has_labels(self) -> bool:
        return self._loaded[1] is not None

    def batches(self, epoch: int, size: int, seed: int) -> Iterator[Batch]:
        import torch

        generator, count = torch.Generator().manual_seed(derive_seed(seed, "order", epoch)), self.num_images
        rounds = [torch.randperm(count, generator=generator) for _ in range(-(-len(self) // max(1, count)))]
        return map(self.take, batches(torch.cat(rounds)[: len(self)], size))

    def sample(self, size: int, seed: int) -> Iterator[Batch]:
        return self._with(per_epoch=None).batches(0, size, seed)

    def in_order(self) -> Iterator[Batch]:
        """Each image once, some at a time."""
        import torch

        return map(self.take, torch.arange(self.num_images).split(self._at_once))

    def take(self, index: Tensor) -> Batch:
        """The images with these numbers, in their order."""
        rows, labels = self._loaded
        numbers = index if self.chosen is None else self.chosen[index]
        return Batch(
            rows.take(numbers),
            None if labels is None else _take(labels, numbers),
            None if self.logits is None else _take(self.logits, index),
        )

    def _with(self, **changes: Any) -> FixedImages:
        """The same images, loaded once."""
        return replace(self, **{"load": lambda: self._loaded, **changes})

    def on(self, device: torch.device) -> FixedImages:
        rows, labels = self._loaded
        kept = [tensor for tensor in (labels, self.logits) if tensor is not None]
        if device.type == "cpu" or rows.nbytes + sum(t.nbytes for t in kept) > free_bytes(device) / 2:
            return self  # each batch is taken there
        labels, logits = (None if tensor is None else tensor.to(device) for tensor in (labels, self.logits))
        near = rows.to(device), labels
        return self._with(load=lambda: near, logits=logits)

    def with_logits(self, answer: Callable[[Tensor], Tensor]) -> FixedImages:
        import torch

        logits, done = torch.empty(0), 0
        for batch in self.in_order():
            some = answer(batch.pixels)
            # One tensor for all: small ones that are kept would lie among freed images, and keep malloc from using their room again.
            logits = logits if done else some.new_empty(self.num_images, *some.shape[1:])
            logits[done : done + len(some)] = some
            done += len(some)
        return self._with(logits=logits)

    def held_out(self, share: float, seed: int) -> tuple[FixedImages, FixedImages | None]:
        held = 0 if self.real else min(round(self.num_images * share), self.num_images - 1)
        if not held:
            return self, None
        import torch

        order = torch.randperm(self.num_images, generator=torch.Generator().manual_seed(seed))
        numbers = torch.arange(self.num_images) if self.chosen is None else self.chosen
        rest, spared = (numbers[part.sort().values] for part in (order[held:], order[:held]))
        return self._with(chosen=rest), self._with(chosen=spared)

    def preview(self, num_classes: int, samples: int) -> Preview:
        import torch

        _, labels = self._loaded
        groups = [torch.arange(self.num_images)]
        if labels is not None:
            own = labels if self.chosen is None else labels[self.chosen]
            groups = [(own == label).nonzero().squeeze(1) for label in range(num_classes)]
        means = [self._mean(group[:MEAN_OF]) for group in groups]
        return Preview(means, [unit_pixels(self.take(group[:samples]).pixels) for group in groups], labels is not None)

    def _mean(self, index: Tensor) -> Tensor:
        import torch

        total = torch.zeros(self._loaded[0].shape, dtype=torch.float64)
        for part in index.split(self._at_once):
            total += unit_pixels(self.take(part).pixels).sum(0, dtype=torch.float64)
        return (total / max(len(index), 1)).float()


def free_bytes(device: torch.device) -> float:
    """Free memory of an accelerator. A CPU has no end of it: what is not in memory is mapped into it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return math.inf


def _take(tensor: Tensor, index: Tensor) -> Tensor:
    return tensor.index_select(0, index.to(tensor.device))
