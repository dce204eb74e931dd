"""Image-steps per second of the inner loop: ours, the reference loop, and the limit."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from benchmarks import reference
from benchmarks.measure import DEVICE, Row, matmul_rate, operations, side_by_side
from dfkd_exp import AllLayers, HintonNet, InputSpec, LeNet5
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction.engine import Engine
from dfkd_exp.reconstruction.loop import reconstruct_groups
from dfkd_exp.reconstruction.objective import DTYPES, Objective
from dfkd_exp.reconstruction.settings import SCHEMAS, Adam
from dfkd_exp.reconstruction.tuning import describe, settle

STEPS = 50
TEACHERS = {"HintonNet": (HintonNet, (1, 28, 28)), "LeNet-5": (LeNet5, (1, 32, 32))}


def random_metadata(teacher: nn.Module, shape: tuple[int, int, int], num_classes: int = 10) -> Metadata:
    """Statistics of noise: as large as real ones, and as good for measuring."""
    inputs = InputSpec.normalised(shape, [], [])
    images = torch.rand(40 * num_classes, *shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(images)) % num_classes
    return AllLayers(covariance="top_only").collect(teacher.cpu(), [(images, labels)], inputs)


def rows() -> Iterator[Row]:
    """Each teacher and way of matching: our loop with the engine that it chooses, against the reference loop."""
    for name, (build, shape) in TEACHERS.items():
        torch.manual_seed(0)
        teacher = frozen(build())
        plain = frozen(build())
        plain.load_state_dict(teacher.state_dict())
        metadata = random_metadata(teacher, shape).to(DEVICE)
        teacher, plain = teacher.to(DEVICE), plain.to(DEVICE)
        hooks = reference.Hooks(plain)
        means = [statistics.mean[0] for statistics in metadata.statistics]
        deviations = [statistics.std()[0] for statistics in metadata.statistics]
        for match in ("sample", "moments"):
            settings = SCHEMAS[match](images_per_class=6400, group_size=100, steps=1000)
            engine = settle(Engine(), teacher, metadata, settings)
            few = SCHEMAS[match](images_per_class=6400, group_size=100, steps=STEPS)
            objective = Objective(teacher, metadata, few, engine)
            groups = range((engine.images_per_batch or 1000) // 100)

            def ours(objective=objective, groups=groups) -> None:
                reconstruct_groups(objective, groups, Adam(), 0)

            def theirs(plain=plain, hooks=hooks, shape=shape, means=means, deviations=deviations, match=match) -> None:
                reference.reconstruct_batch(plain, hooks, shape, means, deviations, match, STEPS)

            fast, slow = side_by_side(ours, theirs)
            rate, reference_rate = 100 * len(groups) * STEPS / fast, reference.BATCH * STEPS / slow
            per_step = operations(theirs) / (STEPS * reference.BATCH)
            parts = [
                f"{rate * per_step / matmul_rate(DTYPES[p]):.0%} of {p}"
                for p in dict.fromkeys(("fp32", engine.precision))
            ]
            yield Row(f"{name}, {match}", "image-steps/s", rate, reference_rate, ", ".join(parts), describe(engine))
