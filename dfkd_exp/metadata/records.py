"""Records: single images' activations, each by its largest coefficients; and which images are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfkd_exp.seeding import derive_seed

FEW_INDICES = 2**16
"""Up to so many coefficients an index takes two bytes in the file, else four."""


@dataclass
class Records:
    """``values[K, R, C]`` and ``indices[K, R, C]``: the C coefficients of largest magnitude of R images per class, of ``num_coefficients``.

    Source: METHOD, ``spectral_all_layers`` and ``spectral_layer_pairs``, where the coefficients are those of a graph Fourier basis.
    """

    form: ClassVar[str] = "records"
    values: Tensor
    indices: Tensor
    num_coefficients: int

    @classmethod
    def largest(cls, coefficients: Tensor, kept: int) -> Records:
        """Of ``coefficients[K, R, F]`` the ``kept`` largest of each record, in the order of their indices."""
        indices = coefficients.abs().topk(kept, dim=2).indices.sort(2).values
        return cls(coefficients.gather(2, indices), indices.to(torch.int32), coefficients.shape[2])

    def dense(self) -> Tensor:
        """``[K, R, F]``, zero where a coefficient was not kept."""
        zeros = self.values.new_zeros(*self.values.shape[:2], self.num_coefficients)
        return zeros.scatter_(2, self.indices.long(), self.values)

    def shapes(self, classes: int, units: int) -> dict[str, list[int]]:
        """The shapes that its tensors must have for ``classes``."""
        _, count, kept = self.values.shape
        return {"values": [classes, count, kept], "indices": [classes, count, kept]}

    def check(self) -> None:
        """Raise ValueError unless each record's indices ascend, from 0 to at most the last coefficient's."""
        if not self.values.numel():
            raise ValueError("records without a value")
        first, last = int(self.indices.min()), int(self.indices.max())
        if first < 0 or last >= self.num_coefficients or not (self.indices.diff(dim=2) > 0).all():
            raise ValueError(
                f"indices from {first} to {last} of {self.num_coefficients} coefficients, or not ascending"
            )

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name."""
        few = self.num_coefficients <= FEW_INDICES
        return {"values": self.values, "indices": self.indices.to(torch.uint16 if few else torch.int32)}


@dataclass
class Signals:
    """Records as activations of units again: ``signals[K, R, U]``."""

    form: ClassVar[str] = "signals"
    signals: Tensor

    @property
    def mean(self) -> Tensor:
        """``[K, U]``."""
        return self.signals.mean(1)

    def std(self) -> Tensor:
        """``[K, U]``; zero with a single record."""
        return self.signals.std(1) if self.signals.shape[1] > 1 else torch.zeros_like(self.mean)

    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """``count`` records of class ``label``, ``[count, U]``: all of them in random order before one comes again."""
        number = self.signals.shape[1]
        rounds = [torch.randperm(number, generator=generator) for _ in range(-(-count // number))]
        return self.signals[label, torch.cat(rounds)[:count].to(self.signals.device)]

    def tensors(self) -> dict[str, Tensor]:
        return {"signals": self.signals}


class Reservoir:
    """The activations of ``size`` images per class, chosen by a hash of the image: at random, but the same ones in any order.

    So halves of the data, collected apart and merged, give the records of the whole, and memory does not grow with the images.
    """

    def __init__(self, num_classes: int, size: int, num_units: int):
        self.size = size
        self.counts = [0] * num_classes
        """Images per class that were offered."""
        self._signals = [torch.zeros(0, num_units) for _ in range(num_classes)]
        self._priorities = [torch.zeros(0, dtype=torch.int64) for _ in range(num_classes)]

    def update(self, label: int, priorities: Tensor, signals: Tensor) -> None:
        """Offer images of one class: ``priorities[N]`` as `image_hash` gives them, ``signals[N, U]``."""
        self.counts[label] += len(priorities)
        self._keep(label, priorities, signals)

    def _keep(self, label: int, priorities: Tensor, signals: Tensor) -> None:
        kept = self._priorities[label]
        wanted = priorities < kept[-1] if len(kept) == self.size else torch.ones_like(priorities, dtype=torch.bool)
        all_priorities = torch.cat([kept, priorities[wanted].cpu()])
        all_signals = torch.cat([self._signals[label], signals[wanted.to(signals.device)].cpu()])
        order = all_priorities.argsort(stable=True)[: self.size]
        self._priorities[label], self._signals[label] = all_priorities[order], all_signals[order]

    def merge(self, other: Reservoir) -> None:
        """Offer what another one holds."""
        for label, (priorities, signals) in enumerate(zip(other._priorities, other._signals, strict=True)):
            self.counts[label] += other.counts[label]
            self._keep(label, priorities, signals)

    def state(self) -> dict[str, Tensor]:
        """All that it holds, for `with_state` in another process."""
        found = {"counts": torch.tensor(self.counts)}
        for label, (priorities, signals) in enumerate(zip(self._priorities, self._signals, strict=True)):
            found |= {f"{label}.priorities": priorities, f"{label}.signals": signals}
        return found

    def with_state(self, state: Mapping[str, Tensor]) -> Reservoir:
        """Another one of the same size that holds what `state` says."""
        other = Reservoir(len(self.counts), self.size, self._signals[0].shape[1])
        other.counts = state["counts"].tolist()
        other._priorities = [state[f"{label}.priorities"] for label in range(len(self.counts))]
        other._signals = [state[f"{label}.signals"] for label in range(len(self.counts))]
        return other

    def signals(self) -> Tensor:
        """``[K, R, U]``; R is ``size``, or the number of images of the smallest class."""
        number = min(len(signals) for signals in self._signals)
        return torch.stack([signals[:number] for signals in self._signals])


def image_hash(images: Tensor) -> Tensor:
    """A number ``[N]`` for each of ``images[N, C, H, W]`` that follows from its pixels' bits alone; as good as random."""
    bits = images.flatten(1).float().contiguous().view(torch.int32).long()
    generator = torch.Generator().manual_seed(derive_seed("image hash", bits.shape[1]))
    factors = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=generator).to(bits.device) * 2 + 1
    total = (bits * factors).sum(1)
    for shift in (30, 27, 31):  # so that the high bits depend on all others
        total = (total ^ (total >> shift)) * 0x1CE4E5B9BF58476D
    return total
