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
ROOM = 2**28
"""Numbers, of what the images of a class add to all statistics, that are held at once: a gigabyte, and up to three while they are computed.
Of more, so many at random are traced."""


@torch.no_grad()
@exact()
def tracing_scores(metadata: Sequence[ResolvedMetadata], teacher: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """How much each of the ``images[N, *shape]``, as pixels, is needed to make up each part T of what was published of its class (means and
    mean squares of a statistic, and covariances if there are some), ``[K, N, T * R]``, by each of the RIDGES; T is 0 where no sums
    over images were published. ``metadata``: K of one kind and teacher."""
    kind = metadata[0]
    of_scope = {"class": labels, "all": torch.zeros_like(labels)}
    found = [torch.zeros(len(metadata), len(labels), 0, dtype=torch.float64)]
    for scope, rows in of_scope.items():
        own = [index for index, statistic in enumerate(kind.statistics) if statistic.scope == scope]
        each = ROOM // (len(own) * int(rows.bincount().max())) if own else 0
        traced = [(i, products) for i in own for products in kind.statistics[i].sums(max(2, each))]
        if not traced:
            continue
        scores = torch.zeros(len(metadata), len(labels), len(traced), len(RIDGES), dtype=torch.float64)
        for row, parts in groupby(by_class(kind, teacher, images, rows), key=lambda part: part[0]):
            candidates, shares = [], []
            for _, some, activations in parts:
                candidates.append(some)
                shares.append([kind.statistics[i].shares(activations, products) for i, products in traced])
            for part, (index, products) in enumerate(traced):
                own_shares = torch.cat([some.pop(0) for some in shares])  # which the list then holds no longer
                totals = torch.stack([one.statistics[index].total(row, products) for one in metadata])
                scores[:, torch.cat(candidates), part] = _coefficients(own_shares, totals).double().cpu()
        found.append(scores.flatten(2))
    return torch.cat(found, 2)


def _coefficients(shares: Tensor, totals: Tensor) -> Tensor:
    """Of the fits of ``totals[K, P]`` by ``shares[N, P]``, ``[K, N, R]``; numbers in which images do not differ are left out. In float32,
    since P may be hundreds of thousands, and the ridges are far above what that rounds."""
    deviation, mean = (each.double() for each in torch.std_mean(shares, 0, correction=0))
    differ = deviation > 1e-6 * mean.abs()
    shares = (shares[:, differ] - mean[differ].float()) / deviation[differ].float()
    totals = ((totals.to(mean)[:, differ] - mean[differ]) / deviation[differ]).float()
    alike = shares @ shares.T / max(1, shares.shape[1])
    each = torch.eye(len(alike)).to(alike)
    return torch.stack([torch.linalg.solve(alike + ridge * each, shares @ totals.T).T for ridge in RIDGES], 2)
