"""How the learning rate changes, step by step. Yours is a class like these, chosen by its import path."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    import torch


@dataclass
class Schedule(Settings):
    """The learning rate of a step as a multiple of the optimiser's."""

    flag: ClassVar[str] = "training.schedule"

    def factor(self, step: int, num_steps: int) -> float:
        """Of step 0, 1, …, num_steps - 1. It depends on nothing else, so that a resumed training goes on where it was."""
        raise NotImplementedError

    def build(self, optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """What sets the optimiser's rate, at its first step and then with each call of ``step()``."""
        import torch

        last = num_steps - 1  # one more is asked for after it, and not used
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.factor(min(step, last), num_steps))


@dataclass
class Constant(Schedule):
    """The same rate throughout."""

    def factor(self, step: int, num_steps: int) -> float:
        return 1.0


@dataclass
class Cosine(Schedule):
    """Half a cosine from the full rate to zero (Loshchilov and Hutter 2017)."""

    def factor(self, step: int, num_steps: int) -> float:
        return half_cosine(step / num_steps)


@dataclass
class OneCycle(Schedule):
    """A warm-up along a line from near zero to the full rate, then half a cosine to zero.

    Source: Smith and Topin (2019). Differs: the momentum stays as it is.
    """

    warmup: float = 0.3
    """Share of the steps in which the rate rises."""

    def __post_init__(self) -> None:
        self.require("warmup", 0 <= self.warmup < 1, "at least 0 and below 1")

    def factor(self, step: int, num_steps: int) -> float:
        rising = int(self.warmup * num_steps)
        if step < rising:
            return (step + 1) / (rising + 1)
        return half_cosine((step - rising) / (num_steps - rising))


@dataclass
class Steps(Schedule):
    """The full rate, and from each of some points of the training on a part of the rate before it."""

    at: list[float] = field(default_factory=lambda: [0.4, 0.8])
    """Shares of the training after which the rate falls (DAFL: 0.4 and 0.8)."""
    to: float = 0.1
    """What it falls to, as a share of the rate before."""

    def __post_init__(self) -> None:
        fits = all(0 < share < 1 for share in self.at)
        self.require("at", fits, "shares of the training, between 0 and 1")
        self.require("to", 0 < self.to < 1, "between 0 and 1")

    def factor(self, step: int, num_steps: int) -> float:
        return self.to ** sum(step >= share * num_steps for share in self.at)


def half_cosine(share: float) -> float:
    """From 1 at a share of 0 to 0 at a share of 1."""
    return 0.5 * (1 + math.cos(math.pi * share))
