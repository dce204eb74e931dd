"""Members of a training set, and others to tell them from: whom a membership inference attack is tried on."""

from __future__ import annotations

import math

import torch

from dfkd_exp.data.images import LabelledImages
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.reservoir import image_hash

CANDIDATES = 5_000
"""Members, and others, at most, that an attack is to tell apart."""


def candidates(
    members: LabelledImages, others: LabelledImages, generator: torch.Generator
) -> tuple[LabelledImages, LabelledImages]:
    """At most CANDIDATES of each at random, of the others as many of each class as keeps its share of the members: else an attack would
    tell classes apart. Members of classes without others are left out; raises DfkdError if that leaves none."""
    members = members.select(torch.isin(members.labels, others.labels).nonzero().squeeze(1))
    if not len(members):
        raise DfkdError(
            "privacy=true compares training images with test images of the same classes, and there are none of both"
        )
    members = members.select(torch.randperm(len(members), generator=generator)[:CANDIDATES])
    wanted, there = (part.labels.bincount(minlength=int(members.labels.max()) + 1) for part in (members, others))
    shares = [int(there[label]) / count for label, count in enumerate(wanted.tolist()) if count]
    share = min(*shares, CANDIDATES / len(members))
    mixed = torch.randperm(len(others), generator=generator)
    chosen = [
        mixed[others.labels[mixed] == label][: math.floor(share * count + 1e-6)]
        for label, count in enumerate(wanted.tolist())
    ]
    return members, others.select(torch.cat(chosen))


def recorded(train: LabelledImages, inputs: InputSpec, num_classes: int, count: int) -> torch.Tensor:
    """Which of the training images' activations are kept as records, ``count`` of each class: those that the `Reservoir` kept."""
    hashes = torch.cat([image_hash(inputs.from_pixels(part)) for part in train.images.split(inputs.images_at_once)])
    kept = []
    for label in range(num_classes):
        own = (train.labels == label).nonzero().squeeze(1)
        kept.append(own[hashes[own].argsort(stable=True)[:count]])
    return torch.cat(kept)
