"""When groups of images have converged: each by its own losses, whatever is made beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from dfkd_exp.reconstruction.settings import Reconstruction


class Stopping:
    """Keeps the images of each group as they were when its loss no longer fell; ``steps[G]``: how many it took.

    It looks every ``patience`` steps and only then, for a look waits for a device that runs ahead.
    """

    def __init__(self, settings: Reconstruction, num_groups: int):
        self.settings = settings
        self.steps = torch.full((num_groups,), settings.steps)
        self._before: Tensor | None = None
        self._kept: dict[int, Tensor] = {}

    def all_converged(self, step: int, losses: Tensor, values: Tensor) -> bool:
        """Take notice of the ``losses[G]`` before a step and the ``values[G * N, …]``, pixels or latents, after it."""
        if not self.settings.tolerance or step % self.settings.patience:
            return False
        now = losses.cpu()
        if self._before is not None:
            converged = now >= self._before - self.settings.tolerance * self._before.abs()  # terms may be negative
            for group in converged.nonzero().flatten().tolist():
                if group not in self._kept:
                    self._kept[group] = values.unflatten(0, (len(now), -1))[group].clone()
                    self.steps[group] = step + 1
        self._before = now
        return len(self._kept) == len(now)

    def restore(self, values: Tensor) -> None:
        """Put the values of groups that had converged back to what they were then."""
        groups = values.unflatten(0, (len(self.steps), -1))
        for group, kept in self._kept.items():
            groups[group] = kept

    def history(self, losses: list[Tensor], every: int, final: Tensor) -> Tensor:
        """``[S, G]``: the losses at steps 0, ``every``, …, and the final ones, which stand for all steps not made too."""
        moments = torch.arange(0, self.settings.steps, every)
        seen = torch.stack([*losses, *[final] * (len(moments) - len(losses))]).cpu()
        final = final.cpu()
        return torch.cat([torch.where(moments[:, None] < self.steps, seen, final), final[None]])
