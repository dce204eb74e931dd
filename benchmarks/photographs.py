"""What it costs to match statistics of a convolutional network: milliseconds of an image-step with nothing to match but the label, and
with each kind for photographs, plainly and as the engine chooses; and how seconds and memory grow with classes and the teacher's depth."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import nn

from benchmarks import children
from benchmarks.growth import Axis
from benchmarks.measure import DEVICE, seconds, seconds_per_step, side_by_side
from dfkd_exp import InputSpec
from dfkd_exp.evaluation.cost import peak_memory
from dfkd_exp.metadata.batch_norm import BatchNormStatistics
from dfkd_exp.metadata.channels import Channels
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.metadata.nothing import Nothing
from dfkd_exp.models.ours import builder
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction.engine.choose import describe, resolve_engine
from dfkd_exp.reconstruction.engine.settings import PLAIN, Engine
from dfkd_exp.reconstruction.loop import reconstruct, reconstruct_groups
from dfkd_exp.reconstruction.moments import Moments
from dfkd_exp.reconstruction.objective import Objective
from dfkd_exp.reconstruction.optimizers import Adam
from dfkd_exp.reconstruction.problem import Problem

NETWORK, SHAPE, NUM_CLASSES = "resnet20", (3, 32, 32), 10
GROUP_SIZE, STEPS, ROUNDS = 100, 3, 3
USUAL, USUAL_STEPS = "channels and styles", 150
"""Of a reconstruction, for which the engine is chosen."""
KINDS: dict[str, MetadataKind] = {
    "the label alone": Nothing(),
    "BatchNorm's own": BatchNormStatistics(),
    "channels": Channels(),
    "channels and styles": Channels(styles=1),
    "channels in 4 x 4 windows": Channels(grid=4),
    "channels in 4 x 4 windows, and styles": Channels(grid=4, styles=1),
}
IMAGES, FEW_STEPS = 2_000, 5
"""Of each growth."""


def metadata_of(kind: MetadataKind, teacher: nn.Module, num_classes: int, per_class: int) -> Metadata:
    """Of smooth noise in colours: as large as that of photographs."""
    noise = torch.rand(per_class * num_classes, SHAPE[0], 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(noise)) % num_classes
    batches = (
        (F.interpolate(part, SHAPE[1:], mode="bilinear"), labels_of_part)
        for part, labels_of_part in zip(noise.split(200), labels.split(200), strict=True)
    )
    return kind.collect(teacher, batches, InputSpec.normalised(SHAPE, [], []))


def tables() -> Iterator[Table]:
    yield of_kinds()
    for name, axis in AXES.items():
        yield axis.table(name)


def of_kinds() -> Table:
    """What each kind costs, beside the label alone and beside PyTorch as it is."""
    torch.manual_seed(0)
    teacher = frozen(builder(NETWORK)(SHAPE, NUM_CLASSES))
    known = {
        name: metadata_of(kind, teacher, NUM_CLASSES, per_class=20).resolved(teacher) for name, kind in KINDS.items()
    }
    settings = partial(Moments, images_per_class=10 * GROUP_SIZE, group_size=GROUP_SIZE)
    teacher = teacher.to(DEVICE)
    chosen = resolve_engine(Engine(), Problem(teacher, known[USUAL], settings(steps=USUAL_STEPS)))
    works, images = [], []
    for metadata in known.values():
        for engine in (replace(PLAIN, images_per_batch=GROUP_SIZE), chosen):
            objective = Objective(Problem(teacher, metadata, settings(steps=STEPS)), engine)
            groups = objective.problem.batches(engine.images_per_batch)[0]
            works.append(partial(reconstruct_groups, objective, groups, Adam(), 0))
            images.append(len(groups) * GROUP_SIZE)
    taken = side_by_side(*works, clock=partial(seconds_per_step, steps=STEPS), rounds=ROUNDS)
    each = [1000 * seconds / count for count, seconds in zip(images, taken, strict=True)]
    plain, ours = each[::2], each[1::2]
    table = Table(
        f"{NETWORK}, groups of {GROUP_SIZE}", "plain, ms an image-step", "of the label alone", "ours", "of the label alone", "ratio",
        caption=f"Ours: {describe(chosen)}, as engine=auto chose for {USUAL}.",
    )  # fmt: skip
    for name, slow, fast in zip(KINDS, plain, ours, strict=True):
        table.add_row(
            name, f"{slow:.3f}", f"{slow / plain[0]:.2f}", f"{fast:.3f}", f"{fast / ours[0]:.2f}", f"{slow / fast:.1f}x"
        )
    return table


def measured_apart(network: str, num_classes: int) -> dict[str, float]:
    """In a process of its own, whose memory is that of nothing else."""
    return json.loads(children.python("-m", "benchmarks.photographs", network, str(num_classes)).splitlines()[-1])


def measured(network: str, num_classes: int) -> dict[str, float]:
    """Seconds and peak memory of ``IMAGES`` from statistics of the channels; on the CPU, as the other growths are."""
    torch.manual_seed(0)
    teacher = frozen(builder(network)(SHAPE, num_classes))
    metadata = metadata_of(Channels(), teacher, num_classes, per_class=4)
    settings: dict[str, Any] = {"per_class": IMAGES // num_classes, "steps": FEW_STEPS, "group_size": 2}
    with peak_memory(torch.device("cpu")) as peak:
        taken = seconds(lambda: reconstruct(teacher, metadata, engine=replace(PLAIN, images_per_batch=200), **settings))
    return {"seconds": taken, "peak_memory_bytes": peak.num_bytes}


AXES = {
    "classes": Axis(
        (10, 100, 1_000),
        lambda classes: measured_apart(NETWORK, classes),
        lambda classes: 1,
        f"{NETWORK}, channels, {IMAGES:,} images in all, {FEW_STEPS} steps. Time is constant, so linear for so many images of each class.",
    ),
    "teacher": Axis(
        ("resnet8", "resnet20", "resnet56"),
        lambda network: measured_apart(network, NUM_CLASSES),
        lambda network: int(network.removeprefix("resnet")) - 1.6,
        "The same. Time is linear in the convolutions, of which the first sees three channels only.",
    ),
}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
