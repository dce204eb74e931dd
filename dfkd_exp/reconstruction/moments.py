"""``match: moments``, as settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dfkd_exp.reconstruction.settings import Reconstruction

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dfkd_exp.metadata.metadata import ResolvedMetadata
    from dfkd_exp.reconstruction.targets import LayerTarget

CONSTANT = 1e-12
"""A class whose mean variance is at most so much of all classes' does not vary, but by rounding."""


@dataclass
class Moments(Reconstruction):
    """``match: moments``: a group's means and deviations fit the statistics', and its logits fit random draws.

    Source: docs/method.md.
    """

    logits_weight: float = 1.0
    """Weight of the sampled logits, where the metadata knows them."""
    shrinkage: float = 0.01
    """A unit's error is divided by its own variance in the class, shrunk this far towards its layer's mean (of its kind)."""
    covariance_weight: float = 0.0
    """Weight of the covariances within each layer, where the metadata knows them; not of the logits, if these fit draws."""
    covariance_directions: int = 32
    """Number of directions, those in which the class varies most, along which covariances are matched."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("covariance_weight", self.covariance_weight >= 0, "at least 0")
        self.require("covariance_directions", self.covariance_directions >= 1, "at least 1")
        self.require("group_size", self.group_size >= 2, "at least 2: one image has no deviation")
        self.require("logits_weight", self.logits_weight >= 0, "at least 0")
        self.require("shrinkage", 0 < self.shrinkage <= 1, "above 0 and at most 1")

    def targets(self, metadata: ResolvedMetadata, labels: Tensor, generator: torch.Generator) -> list[LayerTarget]:
        """Of every layer the mean, the deviation and, divided into their errors, ``v_i = (1 - shrinkage) sd_i^2 + shrinkage mean_i
        sd^2``, the mean over values of a kind: below a shrinkage of 1 a unit that hardly varies in the data, such as a pixel of the
        background, is held the more tightly. Of the logits a draw for each image, its error divided by their mean variance: draws vary as
        the covariance says. A class that does not vary at all, as of a single image, has the mean over all classes in the place of
        its own."""
        from dfkd_exp.reconstruction.losses import positive
        from dfkd_exp.reconstruction.targets import LayerTarget

        logits = metadata.logits.sample(labels, generator)[-1] if metadata.logits and self.logits_weight else None
        found = []
        for index, statistic, position in metadata.matched():
            mean, std = statistic.moments(labels)[position]
            variance = std.square()
            average = variance.view(statistic.kinds, -1).mean(1)
            of_all = statistic.mean_variances[position]
            average = average.where(average > CONSTANT * of_all, of_all)
            each = average.repeat_interleave(len(variance) // statistic.kinds)
            scale = positive(variance + self.shrinkage * (each - variance))
            target = LayerTarget(index, mean, std, scale, view=statistic.view)
            if self.covariance_weight and not (logits is not None and index == len(metadata.layers) - 1):
                directions = statistic.whitening(labels, self.covariance_directions)[position]
                if len(directions):
                    target = replace(target, directions=directions, directions_weight=self.covariance_weight)
            found.append(target)
        if logits is not None:
            weight = self.logits_weight / positive(average.mean())  # of the last layer
            found[-1] = replace(found[-1], draw=logits, draw_weight=weight)
        return found
