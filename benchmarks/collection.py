"""Images per second of collecting: full covariances of every layer, against loops over single images; means and deviations of a
convolutional teacher, against its forward pass alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from benchmarks import reference
from benchmarks.measure import DEVICE, Row, of_matmul_rate, operations, side_by_side
from dfkd_exp import AllLayers, HintonNet, InputSpec
from dfkd_exp.metadata import Channels
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.models.ours import builder
from dfkd_exp.models.recording import frozen

IMAGES, IMAGES_PER_BATCH, SINGLE_IMAGES = 8_000, 1_000, 40
SHAPE = (1, 28, 28)
COLOURED, COLOURED_IMAGES = (3, 32, 32), 1_000


def rows() -> Iterator[Row]:
    yield from covariances()
    yield from deviations()


def covariances() -> Iterator[Row]:
    """HintonNet, one class, a thousand images at a time; the loops sum in PyTorch, and in NumPy as the original does."""
    torch.manual_seed(0)
    teacher, plain = frozen(HintonNet()).to(DEVICE), frozen(HintonNet()).to(DEVICE)
    hooks = reference.Hooks(plain)
    images = torch.rand(IMAGES, *SHAPE, device=DEVICE)

    def ours() -> None:
        collector = AllLayers(covariance="full").collector(teacher, InputSpec.normalised(SHAPE, [], []))
        for part in images.split(IMAGES_PER_BATCH):
            collector.update(part, torch.zeros(len(part), dtype=torch.long))
        for sums in collector.accumulators:
            sums.rows[0].scatters  # noqa: B018  # what is still to be summed

    def in_torch() -> None:
        reference.collect_per_example(plain, hooks, images[:SINGLE_IMAGES])

    def in_numpy() -> None:
        reference.collect_per_example_numpy(plain, hooks, images[:SINGLE_IMAGES])

    fast, *slow = side_by_side(ours, in_torch, in_numpy)
    rate = IMAGES / fast
    # The counter does not see products that are added in place. They are symmetric: half of the entries would do.
    products = sum(
        module.out_features * (module.out_features + 1) for module in teacher.modules() if isinstance(module, nn.Linear)
    )
    limit = of_matmul_rate(rate * (operations(lambda: teacher(images[:1])) + products), "fp32")
    for library, seconds in zip(("PyTorch", "NumPy"), slow, strict=True):
        name = f"collection, full covariances, HintonNet; against {library}"
        yield Row(name, "images/s", rate, SINGLE_IMAGES / seconds, limit, "fp32")


def deviations() -> Iterator[Row]:
    """ResNet-20, a thousand images of one class, as many at a time as the command takes; the forward pass neither records nor sums."""
    torch.manual_seed(0)
    teacher, inputs = frozen(builder("resnet20")()).to(DEVICE), InputSpec.normalised(COLOURED, [], [])
    images = torch.rand(COLOURED_IMAGES, *COLOURED, device=DEVICE)

    def collect(kind: MetadataKind) -> None:
        collector = kind.collector(teacher, inputs)
        for part in images.split(inputs.images_at_once):
            collector.update(part, torch.zeros(len(part), dtype=torch.long))

    @torch.no_grad()
    def forward() -> None:
        for part in images.split(inputs.images_at_once):
            teacher(part)

    kinds = {"of channels": Channels(), "of units": AllLayers(covariance="top_only")}
    alone, *taken = side_by_side(forward, *(partial(collect, kind) for kind in kinds.values()))
    needed = operations(lambda: teacher(images[:1]))
    for name, seconds in zip(kinds, taken, strict=True):
        rate = len(images) / seconds
        title = f"collection, means and deviations {name}, ResNet-20; against the forward pass alone"
        yield Row(title, "images/s", rate, len(images) / alone, of_matmul_rate(rate * needed, "fp32"), "fp32")
