"""Whom sums over images were made of: an attack on means, by what each image would add to them.

What is published is a sum of what its images add. A least-squares fit by the shares of all candidates finds large coefficients for
those that are in it, the better, the more numbers were published for each image. Source: Homer et al. (2008) and Dwork et al. (2015),
"Robust traceability from trace amounts", whose inner product this is, with what the shares have in common taken out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from dfkd_exp.evaluation.attacks import by_class
from dfkd_exp.metadata.metadata import ResolvedMetadata
from dfkd_exp.models.float32 import exact

RIDGES = (0.01, 1.0)
"""Of the fit, in units of what an image's share has for itself: little trusts that the candidates are all there are, much does not."""


@torch.no_grad()
@exact()
def tracing_scores(metadata: Sequence[ResolvedMetadata], teacher: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """How much each image ``inputs[N, *shape]`` is needed to make up each of the S statistics of its class, ``[K, N, S * R]``, by each of
    the RIDGES; zeros where a statistic is no sum over images. ``metadata``: K of one kind and teacher."""
    kind = metadata[0]
    found = torch.zeros(len(metadata), len(labels), len(kind.statistics), len(RIDGES), dtype=torch.float64)
    for label, parts in groupby(by_class(kind, teacher, inputs, labels), key=lambda part: part[0]):
        rows, shares = [], []
        for _, some, activations in parts:
            rows.append(some)
            shares.append([statistic.shares(activations) for statistic in kind.statistics])
        for index, of_statistic in enumerate(zip(*shares, strict=True)):
            if of_statistic[0] is not None:
                totals = torch.stack([each.statistics[index].total(label) for each in metadata])
                found[:, torch.cat(rows), index] = _coefficients(torch.cat(of_statistic), totals).double().cpu()
    return found.flatten(2)


def _coefficients(shares: Tensor, totals: Tensor) -> Tensor:
    """Of the fits of ``totals[K, P]`` by ``shares[N, P]``, ``[K, N, R]``; numbers in which images do not differ are left out. In float32,
    since P may be hundreds of thousands, and the ridges are far above what that rounds."""
    mean, deviation = shares.mean(0), shares.std(0, correction=0)
    differ = deviation > 1e-9 * mean.abs()
    shares = ((shares[:, differ] - mean[differ]) / deviation[differ]).float()
    totals = ((totals.to(mean)[:, differ] - mean[differ]) / deviation[differ]).float()
    alike = shares @ shares.T / max(1, shares.shape[1])
    each = torch.eye(len(alike)).to(alike)
    return torch.stack([torch.linalg.solve(alike + ridge * each, shares @ totals.T).T for ridge in RIDGES], 2)
