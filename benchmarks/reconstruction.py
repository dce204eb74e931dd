"""Image-steps per second of the inner loop: ours, the reference loop, and the limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks import reference
from benchmarks.measure import matmul_rate, operations, side_by_side
from dfkd_exp import AllLayers, HintonNet, InputSpec, LeNet5
from dfkd_exp.metadata.gaussian import GaussianMetadata
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction.engine import PLAIN
from dfkd_exp.reconstruction.loop import reconstruct_groups
from dfkd_exp.reconstruction.objective import Objective
from dfkd_exp.reconstruction.settings import SCHEMAS, Adam

STEPS = 10


@dataclass
class Row:
    """One line of the table. Rates are image-steps per second."""

    name: str
    ours: float
    reference: float
    operations: float
    """Floating-point operations per image-step."""
    peak: float
    """Of the machine, measured in the same run, per second."""

    @property
    def cells(self) -> list[str]:
        limit = self.peak / self.operations
        return [
            self.name, f"{self.ours:,.0f}", f"{self.reference:,.0f}", f"{self.ours / self.reference:.1f}x",
            f"{self.ours / limit:.0%}",
        ]  # fmt: skip


HEADINGS = ["reconstruction, image-steps/s", "ours", "reference", "ratio", "of the limit"]
TEACHERS = {"HintonNet": (HintonNet, (1, 28, 28)), "LeNet-5": (LeNet5, (1, 32, 32))}


def random_metadata(teacher: nn.Module, shape: tuple[int, int, int], num_classes: int = 10) -> GaussianMetadata:
    """Statistics of noise: as large as real ones, and as good for measuring."""
    inputs = InputSpec.normalised(shape, [], [])
    images = torch.rand(40 * num_classes, *shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(images)) % num_classes
    return AllLayers(covariance="top_only").collect(teacher, [(images, labels)], inputs)


def rows(images: int = 1000) -> Iterator[Row]:
    """Each teacher and way of matching, ``images`` of ours at a time."""
    for name, (build, shape) in TEACHERS.items():
        torch.manual_seed(0)
        teacher = frozen(build())
        plain = frozen(build())
        plain.load_state_dict(teacher.state_dict())
        hooks = reference.Hooks(plain)
        metadata = random_metadata(teacher, shape)
        means = [statistics.mean[0] for statistics in metadata.statistics]
        deviations = [statistics.std()[0] for statistics in metadata.statistics]
        for match in ("sample", "moments"):
            settings = SCHEMAS[match](images_per_class=images // 10, group_size=100, steps=STEPS)

            def ours(settings=settings, teacher=teacher, metadata=metadata) -> None:
                reconstruct_groups(Objective(teacher, metadata, settings, PLAIN), range(images // 100), Adam(), 0)

            def theirs(plain=plain, hooks=hooks, shape=shape, means=means, deviations=deviations, match=match) -> None:
                reference.reconstruct_batch(plain, hooks, shape, means, deviations, match, STEPS)

            fast, slow = side_by_side(ours, theirs)
            flops = operations(theirs) / (STEPS * reference.BATCH)
            peak = matmul_rate(torch.float32, torch.device("cpu"))
            yield Row(f"{name}, {match}", images * STEPS / fast, reference.BATCH * STEPS / slow, flops, peak)
