"""Image-steps per second of the inner loop: ours, the reference loop, and the limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import reference
from benchmarks.measure import DEVICE, Row, of_matmul_rate, operations, seconds_per_step, side_by_side
from dfkd_exp import AllLayers, InputSpec
from dfkd_exp.metadata.metadata import Metadata, ResolvedMetadata
from dfkd_exp.models.ours import builder
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction.engine.choose import describe, resolve_engine
from dfkd_exp.reconstruction.engine.settings import Engine
from dfkd_exp.reconstruction.loop import MATCHES, reconstruct_groups
from dfkd_exp.reconstruction.objective import Objective
from dfkd_exp.reconstruction.optimizers import Adam
from dfkd_exp.reconstruction.problem import Problem


class Case(NamedTuple):
    """A teacher of `models.ours.BUILDERS`, and how long to measure it: ``rounds`` times ``steps``, in groups of ``group_size`` images."""

    network: str
    shape: tuple[int, int, int]
    num_classes: int
    group_size: int
    steps: int
    rounds: int


CASES = {
    "HintonNet": Case("hinton_net", (1, 28, 28), 10, group_size=100, steps=50, rounds=5),
    "LeNet-5": Case("lenet5", (1, 32, 32), 10, group_size=100, steps=50, rounds=5),
    # An image-step of these takes some 2 to 3 GFLOP, so a few steps are seconds.
    "ResNet-18, 32x32": Case("resnet18", (3, 32, 32), 10, group_size=25, steps=3, rounds=2),
    "AlexNet, 224x224": Case("alexnet", (3, 224, 224), 2, group_size=25, steps=3, rounds=2),
}


def noise_metadata(teacher: nn.Module, shape: tuple[int, int, int], num_classes: int) -> Metadata:
    """Statistics of smooth noise: as large as real ones, and as good for measuring.

    Noise from pixel to pixel averages out in a large net until bf16 cannot tell two images apart, as it can real ones.
    """
    per_class = max(12, min(40, 30_000 // math.prod(shape)))
    labels = torch.arange(per_class * num_classes) % num_classes
    coarse = torch.rand(len(labels), shape[0], 7, 7, generator=torch.Generator().manual_seed(0))
    batches = (
        (F.interpolate(part, shape[1:], mode="bilinear"), labels_of_part)
        for part, labels_of_part in zip(coarse.split(40), labels.split(40), strict=True)
    )
    kind = AllLayers(covariance="top_only")  # nothing else fits for the large nets, and moments use nothing else
    return kind.collect(teacher.cpu(), batches, InputSpec.normalised(shape, [], []))


def rows() -> Iterator[Row]:
    """Each teacher and way of matching: our loop with the engine that it chooses, against the reference loop."""
    for name, case in CASES.items():
        torch.manual_seed(0)
        teacher, plain = (frozen(builder(case.network)(case.shape, case.num_classes)) for _ in range(2))
        plain.load_state_dict(teacher.state_dict())
        metadata = noise_metadata(teacher, case.shape, case.num_classes).resolved(teacher)
        teacher, plain = teacher.to(DEVICE), plain.to(DEVICE)
        for match in MATCHES:
            yield _row(f"{name}, {match}", case, teacher, plain, metadata, match)


def _row(name: str, case: Case, teacher: nn.Module, plain: nn.Module, metadata: ResolvedMetadata, match: str) -> Row:
    build = partial(MATCHES[match], images_per_class=64 * case.group_size, group_size=case.group_size)
    usual = Problem(teacher, metadata, build(steps=1000))
    engine = resolve_engine(Engine(), usual)  # as for a reconstruction of the usual size
    settings = build(steps=case.steps)
    objective = Objective(Problem(teacher, metadata, settings), engine)
    groups = objective.problem.batches(engine.images_per_batch)[0]
    hooks = reference.Hooks(plain)
    distributions = [matchable.distribution for matchable in metadata.statistics]
    means = [found.mean[0].to(DEVICE) for found in distributions]
    deviations = [found.std()[0].to(DEVICE) for found in distributions]

    def ours(on_step: Callable[..., None]) -> None:
        reconstruct_groups(objective, groups, Adam(), 0, on_step)

    def theirs(on_step: Callable[..., None] = lambda: None, steps: int = case.steps) -> None:
        reference.reconstruct_batch(plain, hooks, case.shape, means, deviations, match, steps, on_step=on_step)

    fast, slow = side_by_side(ours, theirs, clock=partial(seconds_per_step, steps=case.steps), rounds=case.rounds)
    rate = len(groups) * case.group_size / fast
    per_image_step = operations(partial(theirs, steps=1)) / reference.BATCH
    limit = of_matmul_rate(rate * per_image_step, "fp32", engine.precision)
    return Row(name, "image-steps/s", rate, reference.BATCH / slow, limit, describe(engine))
