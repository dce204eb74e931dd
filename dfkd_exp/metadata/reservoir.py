"""Which images are recorded, and their activations: a sample that does not depend on the order of the images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dfkd_exp.seeding import derive_seed


class Reservoir:
    """The activations of ``size`` images per class, chosen by a hash of the image: at random, but the same ones in any order.

    So halves of the data, collected apart and merged, give the records of the whole, and memory does not grow with the images.
    """

    def __init__(self, num_classes: int, size: int, num_units: int):
        self.size = size
        self._signals = [torch.zeros(0, num_units) for _ in range(num_classes)]
        self._priorities = [torch.zeros(0, dtype=torch.int64) for _ in range(num_classes)]

    def update(self, label: int, priorities: Tensor, signals: Tensor) -> None:
        """Offer images of one class: ``priorities[N]`` as `image_hash` gives them, ``signals[N, U]``."""
        kept = self._priorities[label]
        wanted = priorities < kept[-1] if len(kept) == self.size else torch.ones_like(priorities, dtype=torch.bool)
        all_priorities = torch.cat([kept, priorities[wanted].cpu()])
        all_signals = torch.cat([self._signals[label], signals[wanted.to(signals.device)].cpu()])
        order = all_priorities.argsort(stable=True)[: self.size]
        self._priorities[label], self._signals[label] = all_priorities[order], all_signals[order]

    def merge(self, other: Reservoir) -> None:
        """Offer what another one holds."""
        for label, (priorities, signals) in enumerate(zip(other._priorities, other._signals, strict=True)):
            self.update(label, priorities, signals)

    def state(self) -> dict[str, Tensor]:
        """All that it holds, for `with_state` in another process."""
        found: dict[str, Tensor] = {}
        for label, (priorities, signals) in enumerate(zip(self._priorities, self._signals, strict=True)):
            found |= {f"{label}.priorities": priorities, f"{label}.signals": signals}
        return found

    def with_state(self, state: Mapping[str, Tensor]) -> Reservoir:
        """Another one of the same size that holds what `state` says."""
        classes = range(len(self._signals))
        other = Reservoir(len(classes), self.size, self._signals[0].shape[1])
        other._priorities = [state[f"{label}.priorities"] for label in classes]
        other._signals = [state[f"{label}.signals"] for label in classes]
        return other

    def signals(self) -> list[Tensor]:
        """``[R, U]`` of each class; R is ``size``, or the number of images of the smallest class."""
        number = min(len(signals) for signals in self._signals)
        return [signals[:number] for signals in self._signals]


def image_hash(images: Tensor) -> Tensor:
    """A number ``[N]`` for each of ``images[N, *shape]`` that follows from its pixels' bits alone; as good as random."""
    bits = images.flatten(1).float().contiguous().view(torch.int32).long()
    generator = torch.Generator().manual_seed(derive_seed("image hash", bits.shape[1]))
    factors = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=generator).to(bits.device) * 2 + 1
    total = (bits * factors).sum(1)
    for shift in (30, 27, 31):  # so that the high bits depend on all others
        total = (total ^ (total >> shift)) * 0x1CE4E5B9BF58476D
    return total
