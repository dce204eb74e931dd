"""``python -m benchmarks.classes CLASSES``: reconstruct from metadata of so many classes; seconds and peak memory as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from torch import nn

from benchmarks.measure import seconds
from dfkd_exp import HintonNet, InputSpec, reconstruct
from dfkd_exp.evaluation.cost import peak_memory
from dfkd_exp.metadata.covariance import Diagonal, Full, GaussianSummary, pack_symmetric
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.metadata.statistic import Statistic
from dfkd_exp.models.recording import find_layers, frozen, weights_digest
from dfkd_exp.reconstruction.engine.settings import PLAIN

IMAGES, STEPS = 6_400, 20
INPUTS = InputSpec.normalised((1, 28, 28), [], [])


def synthetic_metadata(teacher: nn.Module, num_classes: int) -> Metadata:
    """Random means, variances of one: no data set at hand has so many classes."""
    layers = find_layers(teacher, torch.zeros(2, *INPUTS.shape))
    means = [torch.randn(num_classes, layer.num_units) for layer in layers]
    covariances = pack_symmetric(torch.eye(num_classes)).repeat(num_classes, 1)
    summaries: list[GaussianSummary] = [Diagonal(mean, torch.ones_like(mean)) for mean in means[:-1]]
    summaries.append(Full(means[-1], covariances))
    counts, digest = [IMAGES] * num_classes, weights_digest(teacher)
    statistics = [Statistic((index,), summary) for index, summary in enumerate(summaries)]
    return Metadata(layers, statistics, 8.0, num_classes, counts, INPUTS, digest, {})


def measured(num_classes: int) -> dict[str, float]:
    """On the CPU, as the other growths are; ``IMAGES`` in all."""
    torch.manual_seed(0)
    teacher = frozen(HintonNet(INPUTS.shape, num_classes))
    metadata = synthetic_metadata(teacher, num_classes)
    settings: dict[str, Any] = {"per_class": IMAGES // num_classes, "steps": STEPS, "group_size": 10, "engine": PLAIN}
    with peak_memory(torch.device("cpu")) as peak:
        taken = seconds(lambda: reconstruct(teacher, metadata, **settings))
    return {"seconds": taken, "peak_memory_bytes": peak.num_bytes}


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]))))
