"""Groups of images whose features have the moments that the teacher's BatchNorm layers have kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class BatchNorm(Term):
    """Over all BatchNorm layers, the Euclidean distance of the means of what they take in from their running means, and of the variances
    from their running variances.

    Source: Yin et al. (2020), eq. 4, DeepInversion. ``metadata=batch_norm`` asks for the same in units of each channel's deviation.
    """

    of_groups: ClassVar[bool] = True
    of_batch_norms: ClassVar[bool] = True

    def __call__(self, candidates: Candidates) -> Tensor:
        from dfkd_exp.reconstruction.group_moments import moments

        total = candidates.logits.new_zeros(candidates.num_groups)
        for layer in candidates.batch_norms:
            values = candidates.by_group(layer.values)  # [G, N, C, *locations]
            mean, variance = moments(values, (1, *range(3, values.dim())))
            total = total + (mean - layer.mean).norm(dim=1) + (variance - layer.variance).norm(dim=1)
        return total
