"""Membership inference that knows what membership changes: by likelihood ratios over shadows.

A shadow is what would have been released of another random half of the images. Of many of them it is known how an image's scores lie
where it is among the images, and where it is not; the release is then asked which of the two its own scores look like.
Source: Carlini et al. (2022), "Membership inference attacks from first principles" (LiRA).
"""

from __future__ import annotations

import statistics

import torch
from scipy.stats import t
from torch import Tensor

from dfkd_exp.evaluation.attacks import CONFIDENCE, Attack, attack


def halves(labels: Tensor, shadows: int, generator: torch.Generator) -> Tensor:
    """Which of the images with ``labels[N]`` each shadow is made of, ``[K, N]``: a random half of each class, and the next shadow the other
    half, so that of such pairs every image is in as many shadows as it is not in."""
    inside = torch.zeros(shadows + shadows % 2, len(labels), dtype=torch.bool)
    for first in range(0, shadows, 2):
        mixed = torch.randperm(len(labels), generator=generator)
        for label in labels.unique().tolist():
            own = mixed[labels[mixed] == label]
            inside[first, own[: len(own) // 2]] = True
        inside[first + 1] = ~inside[first]
    return inside[:shadows]


def likelihood_ratios(scores: Tensor, inside: Tensor, labels: Tensor) -> Tensor:
    """The logarithm ``[K, N]`` of how much likelier an image's scores are if the shadow is made of it than if it is not.

    ``scores[K, N, S]``: of images with ``labels[N]`` under shadows; ``inside[K, N]``: of which images each is made, in pairs of `halves`.
    Each pair is judged by the others: without one of the two alone, how often an image is in the rest would tell. The S scores of an
    image are Gaussian, in and out about two means that are its own; what they vary by is taken to be the same for all images, and what
    all images of a class have in common in a shadow says nothing of one. Few shadows know an image's two means badly: their difference
    is drawn towards what follows from its mean score, the more, the less it is known (empirical Bayes).
    """
    scores = scores.double()
    scores = scores / _nonzero(scores.std((0, 1)))
    pair = torch.arange(len(scores)) // 2
    others = [pair != pair[k] for k in range(len(scores))]
    return torch.stack([_ratios(scores[k], scores[them], inside[them], labels) for k, them in enumerate(others)])


def _ratios(target: Tensor, scores: Tensor, inside: Tensor, labels: Tensor) -> Tensor:
    """Those ``[N]`` of the ``target[N, S]``, by ``scores[K, N, S]`` of others."""
    within, without = inside.double()[..., None], (~inside).double()[..., None]
    times_in, times_out = within.sum(0), without.sum(0)
    mean_in, mean_out = (within * scores).sum(0) / times_in, (without * scores).sum(0) / times_out
    noise = (scores - torch.where(inside[..., None], mean_in, mean_out)).flatten(0, 1)
    freedom = max(1, scores.shape[0] - 2) * scores.shape[1]
    covariance = noise.T @ noise / freedom
    difference, centre = mean_in - mean_out, (mean_in + mean_out) / 2
    uncertain = covariance.diagonal() * (1 / times_in + 1 / times_out)
    expected = _line(centre, difference)
    spread = ((difference - expected).square() - uncertain).mean(0).clamp_min(0)
    difference = expected + spread / _nonzero(spread + uncertain) * (difference - expected)
    centre = (scores - (within - 0.5) * difference).mean(0)
    away = target - centre
    for label in labels.unique():
        away[labels == label] -= away[labels == label].mean(0)
    precision = torch.linalg.pinv(covariance, hermitian=True, rtol=1e-9)
    return (away @ precision * difference).sum(1)


def _line(x: Tensor, y: Tensor) -> Tensor:
    """The least-squares line of each column of ``y[N, S]`` over that of ``x[N, S]``, at ``x``."""
    dx, dy = x - x.mean(0), y - y.mean(0)
    return y.mean(0) + dx * (dx * dy).sum(0) / _nonzero(dx.square().sum(0))


def _nonzero(values: Tensor) -> Tensor:
    """The same where what is divided by them is nothing."""
    return torch.where(values > 0, values, torch.ones_like(values))


def attack_on_shadows(ratios: Tensor, inside: Tensor) -> Attack:
    """What the likelihood ``ratios[K, N]`` achieve, mean over the shadows, with the 95 % interval (Student's) of that of their pairs; where
    all pairs have the same, as all or none of their images told apart, that of a single shadow."""
    each = [attack(ratios[k][inside[k]], ratios[k][~inside[k]]) for k in range(len(ratios))]

    def mean(values: list[float], single: tuple[float, float]) -> tuple[float, float, float]:
        pairs = [statistics.fmean(values[k : k + 2]) for k in range(0, len(values), 2)]
        # Where nothing is found, what one pair says of another is what that says of it: half of the pairs' figures are news.
        away = t.ppf(0.5 + CONFIDENCE / 2, len(pairs) - 1) * statistics.stdev(pairs) * (2 / len(pairs)) ** 0.5
        middle = statistics.fmean(pairs)
        if not away:
            return middle, *single
        return middle, max(0.0, middle - float(away)), min(1.0, middle + float(away))

    auc, *interval = mean([one.auc for one in each], each[0].auc_interval)
    rates = {
        name: mean([one.true_positives[name][0] for one in each], each[0].true_positives[name][1:])
        for name in each[0].true_positives
    }
    return Attack(auc, (interval[0], interval[1]), rates)
