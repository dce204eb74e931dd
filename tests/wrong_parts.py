"""Code of somebody who uses the project, each piece wrong in one way: named by import path in tests/wrong_configs.py."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dfkd_exp.reconstruction.terms.term import Term
from dfkd_exp.training.augmentation import Augmentation
from dfkd_exp.training.schedules import Schedule

NOT_A_NETWORK = 3


class Flat(nn.Module):
    """A linear network of 8x8 images, right; ``num_out`` and the like may make it wrong."""

    def __init__(self, num_out: int = 10, twice: bool = False, fails: str = ""):
        super().__init__()
        if fails == "made":
            raise KeyError("no such key")
        self.linear, self.twice, self.fails = nn.Linear(64, num_out), twice, fails

    def forward(self, images):
        if self.fails == "called":
            raise AttributeError("no such attribute")
        if self.fails == "trained" and self.training:
            raise ValueError("cannot be trained")
        logits = self.linear(images.flatten(1))
        if self.fails == "no gradient":
            logits = logits.detach()
        return (logits, 2 * logits) if self.twice else logits


class NeedsClosure(torch.optim.SGD):
    def step(self, closure):
        closure()
        return super().step()


@dataclass
class Falling(Schedule):
    """Ends below zero."""

    def factor(self, step: int, num_steps: int) -> float:
        return float("nan")


@dataclass
class Breaking(Schedule):
    """Divides by zero."""

    def factor(self, step: int, num_steps: int) -> float:
        return 1 / 0


@dataclass
class Smaller(Augmentation):
    """Takes a row away, and a pixel too many of a network."""

    def __call__(self, images, uniform, outside):
        return images[:, :, 1:]


@dataclass
class PerBatch(Term):
    """A mean over the batch in the place of a number for each image."""

    def __call__(self, candidates):
        return candidates.pixels.mean()


@dataclass
class Unfinished(Term):
    """Has no formula."""
