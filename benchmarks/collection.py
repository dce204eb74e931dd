"""Images per second of collecting full covariances of every layer, against a loop over single images."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks import reference
from benchmarks.measure import DEVICE, Row, matmul_rate, operations, side_by_side
from dfkd_exp import AllLayers, HintonNet, InputSpec
from dfkd_exp.models.recording import frozen

IMAGES, SINGLE_IMAGES = 8_000, 40


def rows() -> Iterator[Row]:
    """HintonNet, one class after the other, a thousand images at a time."""
    shape = (1, 28, 28)
    torch.manual_seed(0)
    teacher, plain = frozen(HintonNet()).to(DEVICE), frozen(HintonNet()).to(DEVICE)
    hooks = reference.Hooks(plain)
    images = torch.rand(IMAGES, *shape, device=DEVICE)
    labels = torch.zeros(1000, dtype=torch.long)

    def ours() -> None:
        collector = AllLayers(covariance="full").collector(teacher, InputSpec.normalised(shape, [], []))
        for part in images.split(1000):
            collector.update(part, labels)
        collector.moments[1][0].products  # noqa: B018  # the last sums

    def theirs() -> None:
        reference.collect_per_example(plain, hooks, images[:SINGLE_IMAGES])

    fast, slow = side_by_side(ours, theirs)
    rate = IMAGES / fast
    # The counter does not see products that are added in place.
    per_image = operations(lambda: teacher(images[:100])) / 100 + sum(
        2 * module.out_features**2 for module in teacher.modules() if isinstance(module, torch.nn.Linear)
    )
    limit = f"{rate * per_image / matmul_rate(torch.float32):.0%} of fp32"
    yield Row("collection, full covariances, HintonNet", "images/s", rate, SINGLE_IMAGES / slow, limit, "fp32")
