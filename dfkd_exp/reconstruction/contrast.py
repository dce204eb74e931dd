"""Images told from each other, and from those of earlier batches, by what a learned head makes of the teacher's features of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfkd_exp.reconstruction.learner import Learner
from dfkd_exp.reconstruction.terms.term import Candidates
from dfkd_exp.seeding import seeded

if TYPE_CHECKING:
    from dfkd_exp.reconstruction.terms.contrast import Contrast


class ContrastLearner(Learner):
    """`Contrast` at work: its head of two dense layers, and its bank, the features ``[B, F]`` of the images that were made last."""

    bank: Tensor
    added: Tensor
    """Features that were ever added to the bank."""

    def __init__(self, settings: Contrast, num_features: int, seed: int):
        super().__init__()
        self.settings = settings
        with seeded(seed):
            self.head = nn.Sequential(
                nn.Linear(num_features, num_features), nn.ReLU(), nn.Linear(num_features, settings.dimensions)
            )
        self.register_buffer("bank", torch.zeros(settings.bank, num_features))
        self.register_buffer("added", torch.zeros((), dtype=torch.long))
        self._generator = torch.Generator()
        self._filled = 0
        self._latest = self.bank[:0]

    def begin_batch(self, seed: int) -> None:
        self._generator.manual_seed(seed)
        self._filled = min(int(self.added), len(self.bank))

    def forward(self, candidates: Candidates) -> Tensor:
        assert candidates.features is not None
        assert candidates.features_of is not None
        pixels, self._latest = candidates.pixels, candidates.features.detach()
        uniform = torch.rand(len(pixels), pixels.dim(), generator=self._generator).to(pixels.device)
        crops = cropped(pixels, uniform, self.settings.smallest_crop)
        with torch.no_grad():
            keys = self.head(torch.cat([self._latest, self._remembered()]))
        return info_nce(self.head(candidates.features_of(crops)), keys, self.settings.temperature)

    def after_batch(self) -> None:
        latest = self._latest[-len(self.bank) :] if len(self.bank) else self._latest[:0]
        if len(latest):
            places = (self.added + torch.arange(len(latest), device=self.bank.device)) % len(self.bank)
            self.bank[places] = latest
            self.added += len(latest)

    def _remembered(self) -> Tensor:
        """So many of the bank's features as images are compared with at a step."""
        if self._filled <= self.settings.negatives:
            return self.bank[: self._filled]
        index = torch.randperm(self._filled, generator=self._generator)[: self.settings.negatives]
        return self.bank[index.to(self.bank.device)]


def info_nce(anchors: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """``-log(exp(s_jj / T) / sum_i exp(s_ji / T))`` of each of ``anchors[M, E]``, with ``s_ji`` the cosine of the angle between it and
    ``keys[M + B, E]``, of which key j is its own: ``[M]``."""
    cosines = F.normalize(anchors) @ F.normalize(keys).T
    own = torch.arange(len(anchors), device=anchors.device)
    return F.cross_entropy(cosines / temperature, own, reduction="none")


def cropped(pixels: Tensor, uniform: Tensor, smallest: float) -> Tensor:
    """A part of each of ``pixels[M, C, *space]`` stretched to its whole size, linearly, and half of them mirrored along the last axis, as
    the rows of ``uniform[M, A + 2]``, random numbers from 0 to 1, say: a part has a share of space from ``smallest`` to 1, and as large a
    share of each of the A axes."""
    space = pixels.shape[2:]
    side = (smallest + (1 - smallest) * uniform[:, :1]) ** (1 / len(space))
    for axis, size in enumerate(space):
        centres = (torch.arange(size, device=pixels.device) + 0.5) / size
        if axis == len(space) - 1:
            centres = torch.where(uniform[:, -1:] < 0.5, 1 - centres, centres)
        first = (1 - side) * uniform[:, axis + 1, None]
        at = ((first + side * centres) * size - 0.5).clamp(0, size - 1)
        before = at.long()
        along = [len(pixels), *[1] * (axis + 1), size, *[1] * (len(space) - axis - 1)]
        one, next_one = (
            pixels.gather(axis + 2, index.view(along).expand_as(pixels))
            for index in (before, (before + 1).clamp(max=size - 1))
        )
        pixels = torch.lerp(one, next_one, (at - before).view(along))
    return pixels
