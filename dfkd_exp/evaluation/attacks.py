"""What is given away: membership inference, and what is nearest to the reconstructions.

An attack gives every image a score, the higher the likelier that it was in the training set; members are training images, the
others held-out ones of the same kind. It finds what it looks for: a low figure says that this attack failed, not that nothing is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import brentq
from scipy.stats import beta, binom
from torch import Tensor, nn

from dfkd_exp import console
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.metadata import ResolvedMetadata
from dfkd_exp.models.float32 import exact
from dfkd_exp.models.recording import borrowed, device_of, recording

FALSE_POSITIVES = (0.001, 0.01)
"""Rates of false accusations at which the rate of true ones is given. Source: Carlini et al. (2022), "Membership inference attacks
from first principles"."""
CONFIDENCE = 0.95
RESAMPLED = 2_000
"""Times that members and others are drawn anew from themselves, for the interval of a rate."""
AT_ONCE = 512


@dataclass(frozen=True)
class Attack:
    """What an attack achieved: the area under its curve, and true positives at low rates of false ones, each with its 95 % interval."""

    auc: float
    auc_interval: tuple[float, float]
    true_positives: dict[str, tuple[float, float, float]]

    def plain(self) -> dict[str, Any]:
        """As JSON-able values."""
        rates = {
            f"tpr_at_{rate}": {"rate": r, "low": low, "high": high}
            for rate, (r, low, high) in self.true_positives.items()
        }
        return {"auc": self.auc, "auc_low": self.auc_interval[0], "auc_high": self.auc_interval[1], **rates}


def attack(members: Tensor, others: Tensor) -> Attack:
    """How well scores ``[M]`` of members and ``[N]`` of others tell them apart; 0.5 is chance.

    The area's interval is DeLong's (1988), or Newcombe's (2006) where all or none of them are told apart, or there is a single image, and
    DeLong's would have no width; the rates' are `_rate_interval`. Of fewer than a thousand others none may be accused at 0.1 %, and members
    that are like the others are found at a rate of (accused + 1) / (N + 1).
    """
    members, others = members.double().cpu(), others.double().cpu()
    sorted_others, sorted_members = others.sort().values, members.sort().values
    beaten = _share_below(members, sorted_others)
    beating = 1 - _share_below(others, sorted_members)
    auc = float(beaten.mean())
    deviation = (
        float((beaten.var() / len(members) + beating.var() / len(others)).sqrt())
        if min(len(members), len(others)) > 1
        else 0.0
    )
    interval = (max(0.0, auc - 1.96 * deviation), min(1.0, auc + 1.96 * deviation))
    if not deviation:
        interval = _newcombe_interval(auc, len(members), len(others))
    rates = {}
    for rate in FALSE_POSITIVES:
        allowed = int(rate * len(others))
        threshold = sorted_others[len(others) - 1 - allowed]  # as many of the others are above it as may be
        found = float((members > threshold).double().mean())
        rates[f"{100 * rate:g}%"] = (found, *_rate_interval(sorted_members, sorted_others, allowed, found))
    return Attack(auc, interval, rates)


def _rate_interval(sorted_members: Tensor, sorted_others: Tensor, allowed: int, found: float) -> tuple[float, float]:
    """Of the rate at which members are ``found``, above all but ``allowed`` of the others: by the bootstrap of both, since the threshold
    hangs on a few of the others; and Clopper and Pearson's (1934), which has a width where all or none are found."""
    count, others = len(sorted_members), len(sorted_others)
    # Of others that are drawn from themselves, the one that is the threshold: a place among uniform ones, which has a beta distribution.
    place = torch.from_numpy(beta.rvs(allowed + 1, others - allowed, size=RESAMPLED, random_state=0) * others)
    threshold = sorted_others[others - 1 - place.long().clamp_max(others - 1)]
    above = count - torch.searchsorted(sorted_members, threshold, right=True)
    drawn = torch.from_numpy(binom.rvs(count, above.numpy() / count, random_state=1)) / count
    tail = (1 - CONFIDENCE) / 2
    low, high = torch.quantile(drawn.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    exact_low, exact_high = _exact_interval(round(found * count), count)
    return min(low, exact_low), max(high, exact_high)


def _share_below(values: Tensor, sorted_values: Tensor) -> Tensor:
    """The share of ``sorted_values`` below each of ``values``, equal ones counted half."""
    low = torch.searchsorted(sorted_values, values, right=False)
    high = torch.searchsorted(sorted_values, values, right=True)
    return (low + high).double() / (2 * len(sorted_values))


def _newcombe_interval(auc: float, members: int, others: int) -> tuple[float, float]:
    """All areas from which ``auc`` is no further than 1.96 of the deviations that they would have with so many images, of scores that are
    exponentially distributed. Source: Newcombe (2006), "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic", method 5."""

    def excess(area: float) -> float:
        many = (members + others) / 2 - 1
        spread = 1 + many * ((1 - area) / (2 - area) + area / (1 + area))
        return (auc - area) ** 2 - 1.96**2 * area * (1 - area) * spread / (members * others)

    beside = 1e-9  # at 0 and 1 the deviation is 0, so that each of them solves its own equation
    return brentq(excess, 0.0, auc - beside) if auc else 0.0, brentq(excess, auc + beside, 1.0) if auc < 1 else 1.0


def _exact_interval(found: int, count: int) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low = beta.ppf(tail, found, count - found + 1) if found else 0.0
    high = beta.ppf(1 - tail, found + 1, count - found) if found < count else 1.0
    return float(low), float(high)


def confidence_scores(logits: Tensor, labels: Tensor) -> Tensor:
    """A network's log-probability ``[N]`` of the images' true classes: members are learned better. Source: Yeom et al. (2018)."""
    return logits.double().log_softmax(1).gather(1, labels[:, None])[:, 0]


def confidence_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """The same as a logit ``[N]``, the logarithm of the probability over that of all other classes, which is nearly Gaussian over
    networks. Source: Carlini et al. (2022), Sec. IV-C."""
    logits, others = logits.double(), torch.ones_like(logits, dtype=torch.bool).scatter(1, labels[:, None], False)
    return logits.gather(1, labels[:, None])[:, 0] - logits.where(others, -torch.inf).logsumexp(1)


def metadata_scores(metadata: ResolvedMetadata, teacher: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """How well the teacher's activations for ``images[N, *shape]``, as pixels, fit the metadata of their classes, ``[N]``: minus the mean
    of their `metadata_misfits`."""
    return -metadata_misfits([metadata], teacher, images, labels)[0].mean(1)


@torch.no_grad()
@exact()
def metadata_misfits(
    metadata: Sequence[ResolvedMetadata], teacher: nn.Module, images: Tensor, labels: Tensor
) -> Tensor:
    """How badly the teacher's activations for ``images[N, *shape]``, as pixels, fit each of the S statistics of their classes in each of K
    ``metadata`` of one kind and teacher, ``[K, N, S]`` (`Distribution.misfits`); where statistics are of single images, whose alternatives
    are the same in all of them, those of the image that fits best. Where nothing was published, all images fit alike: ``[K, N, 1]`` of
    zeros."""
    kind = metadata[0]
    if not kind.statistics:
        return torch.zeros(len(metadata), len(labels), 1, dtype=torch.float64)
    found = torch.empty(len(metadata), len(labels), len(kind.statistics), dtype=torch.float64)
    for label, rows, activations in by_class(kind, teacher, images, labels):
        for number, each in enumerate(metadata):
            misfits = torch.stack([statistic.misfits(activations, label) for statistic in each.statistics])
            best = misfits.mean(0).argmin(1).expand(len(misfits), -1)
            found[number, rows] = misfits.gather(2, best[..., None])[..., 0].T.cpu()
    return found


def by_class(
    metadata: ResolvedMetadata, teacher: nn.Module, images: Tensor, labels: Tensor
) -> Iterator[tuple[int, Tensor, list[Tensor]]]:
    """Class after class, some of ``images[N, *shape]`` at a time, as pixels: the class, which of them they are, and their activations,
    float64, in the form that the statistics describe."""
    device = device_of(teacher)
    progress = console.Progress("images attacked", len(images))
    with borrowed(teacher), recording(teacher, metadata.layers) as recorder, progress:
        for label in labels.unique().tolist():
            for rows in (labels == label).nonzero().squeeze(1).split(metadata.inputs.images_at_once):
                recorded = recorder(metadata.inputs.from_pixels(images[rows].to(device)))
                yield label, rows.cpu(), metadata.activations([values.double() for values in recorded])
                progress.advance(len(rows))


@exact()
def nearest(images: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """For each of ``images[N, …]`` the distance ``[N]`` to the nearest ``among[M, …]``, and which it is; root of the mean squared
    difference of their values."""
    flat, others = images.flatten(1).float(), among.flatten(1).float()
    distances, which = [], []
    for part in flat.split(AT_ONCE):
        least = torch.cdist(part, others).min(1)
        distances.append(least.values / flat.shape[1] ** 0.5)
        which.append(least.indices)
    return torch.cat(distances), torch.cat(which)


def image_scores(
    images: Tensor, labels: Tensor, inputs: InputSpec, shown: Tensor, shown_labels: Tensor | None
) -> Tensor:
    """Minus the distance of ``images[N, *shape]``, as pixels, to the nearest of the inputs ``shown[M, *shape]`` to a student, of their own
    class where it is known: ``[N]``."""
    found = torch.full((len(images),), -torch.inf)
    for label in labels.unique().tolist() if shown_labels is not None else [None]:
        own = shown if shown_labels is None else shown[shown_labels == label]
        rows = torch.arange(len(images)) if label is None else (labels == label).nonzero().squeeze(1)
        for some in rows.split(inputs.images_at_once) if len(own) else ():
            found[some] = -nearest(inputs.from_pixels(images[some]), own)[0]
    return found
