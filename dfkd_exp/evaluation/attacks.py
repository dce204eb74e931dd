"""What is given away: membership inference, and what is nearest to the reconstructions.

An attack gives every image a score, the higher the likelier that it was in the training set; members are training images, the
others held-out ones of the same kind. It finds what it looks for: a low figure says that this attack failed, not that nothing is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import beta
from torch import Tensor, nn

from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.metadata.records import Signals
from dfkd_exp.models.recording import recording

FALSE_POSITIVES = (0.001, 0.01)
"""Rates of false accusations at which the rate of true ones is given. Source: Carlini et al. (2022), "Membership inference attacks
from first principles"."""
CONFIDENCE = 0.95
AT_ONCE = 512
ROUNDING = 1e-6
"""Relative error of activations in single precision, below which nothing is told apart."""


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

    The area's interval is DeLong's (1988), the rates' are Clopper and Pearson's (1934).
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
    rates = {}
    for rate in FALSE_POSITIVES:
        allowed = int(rate * len(others))
        threshold = sorted_others[len(others) - 1 - allowed]  # as many of the others are above it as may be
        found = int((members > threshold).sum())
        rates[f"{100 * rate:g}%"] = (found / len(members), *_exact_interval(found, len(members)))
    return Attack(auc, interval, rates)


def _share_below(values: Tensor, sorted_values: Tensor) -> Tensor:
    """The share of ``sorted_values`` below each of ``values``, equal ones counted half."""
    low = torch.searchsorted(sorted_values, values, right=False)
    high = torch.searchsorted(sorted_values, values, right=True)
    return (low + high).double() / (2 * len(sorted_values))


def _exact_interval(found: int, count: int) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low = beta.ppf(tail, found, count - found + 1) if found else 0.0
    high = beta.ppf(1 - tail, found + 1, count - found) if found < count else 1.0
    return float(low), float(high)


def confidence_scores(logits: Tensor, labels: Tensor) -> Tensor:
    """A network's log-probability ``[N]`` of the images' true classes: members are learned better. Source: Yeom et al. (2018)."""
    return logits.double().log_softmax(1).gather(1, labels[:, None])[:, 0]


@torch.no_grad()
def metadata_scores(metadata: Metadata, teacher: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """How well the teacher's activations for images ``[N, C, H, W]`` fit the metadata of their classes, ``[N]``.

    ``metadata`` is one of units. Gaussians: the log-likelihood per unit, units taken as independent, mean over layers. Records: how
    well one of them fits, all blocks together.
    """
    scores = []
    with recording(teacher, metadata.layer_names) as recorder:
        for images, wanted in zip(inputs.split(AT_ONCE), labels.split(AT_ONCE), strict=True):
            activations = metadata.activations([output.flatten(1).double() for output in recorder(images)])
            scores.append(
                _record_scores(metadata, activations, wanted)
                if metadata.has_records
                else _gaussian_scores(metadata, activations, wanted)
            )
    return torch.cat(scores)


def _gaussian_scores(metadata: Metadata, activations: Sequence[Tensor], labels: Tensor) -> Tensor:
    layers = []
    for values, (mean, std) in zip(activations, metadata.layer_moments(), strict=True):
        spread = std.double().square() + 1e-3 * std.double().square().mean() + 1e-12
        own_mean, own_spread = mean.double()[labels], spread[labels]
        layers.append(-((values - own_mean).square() / own_spread + own_spread.log()).mean(1) / 2)
    return torch.stack(layers).mean(0)


def _record_scores(metadata: Metadata, activations: Sequence[Tensor], labels: Tensor) -> Tensor:
    """How well each image fits one of the records of its class.

    What a record leaves out of its image's signal s is orthogonal to what it keeps of it, s_bar, in any orthonormal basis: so
    ``<s, s_bar> = |s_bar|^2``, as exactly as numbers are stored, for that image and hardly for another; and s is near s_bar.
    """
    scores = labels.new_empty(len(labels), dtype=torch.float64)
    for label in labels.unique().tolist():
        rows, exact, near = labels == label, [], []
        for block in metadata.blocks:
            assert isinstance(block.summary, Signals)
            values = torch.cat([activations[index][rows] for index in block.layers], 1)
            records = block.summary.signals[label].double()
            kept, shared = records.square().sum(1) + 1e-12, values @ records.T
            exact.append((shared / kept - 1).abs())
            near.append((values.square().sum(1, keepdim=True) + kept - 2 * shared).clamp_min(0) / kept)
        misfits = [(torch.stack(parts).mean(0) + ROUNDING).log() for parts in (exact, near)]
        scores[rows] = -(misfits[0] + misfits[1]).min(1).values
    return scores


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


def image_scores(inputs: Tensor, labels: Tensor, shown: Tensor, shown_labels: Tensor | None) -> Tensor:
    """Minus the distance of images to the nearest of what a student was ``shown``, of their own class where it is known: ``[N]``."""
    if shown_labels is None:
        return -nearest(inputs, shown)[0]
    found = torch.full((len(inputs),), -torch.inf)
    for label in labels.unique().tolist():
        own = shown[shown_labels == label]
        if len(own):
            found[labels == label] = -nearest(inputs[labels == label], own)[0]
    return found
