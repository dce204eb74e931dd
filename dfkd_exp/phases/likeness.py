"""The phase that compares what the student was shown with the training images, as the teacher sees both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfkd_exp.phases.context import LazyData, RunContext
from dfkd_exp.release.folder import Release
from dfkd_exp.run_folder import LIKENESS
from dfkd_exp.seeding import derive_seed
from dfkd_exp.store import Artifact
from dfkd_exp.training.transfer_set import TransferSet

COMPARED = 3_000
"""Images of either kind, at most, at random."""


def measure_likeness(
    context: RunContext, release: Release, transfer_set: TransferSet, student: Artifact, data: LazyData, seed: int
) -> Artifact:
    """How much the images vary beside the training images, layer by layer, as figures and as a drawing."""
    identity = {
        **release.identity, "data": data.fingerprint, "transfer_set": transfer_set.identity, "seed": seed,
        **({"student": student.digest} if transfer_set.follows_student else {}),
    }  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        from dfkd_exp.evaluation.likeness import likeness, to_compare
        from dfkd_exp.report.figures import how_images_vary, png

        made, real = to_compare(transfer_set, data.images.train, COMPARED, derive_seed(seed, "likeness"))
        found = likeness(release.teacher().to(context.device), made, real, release.inputs)
        (folder / LIKENESS).write_bytes(png(how_images_vary(found)))
        return {"likeness": [layer.plain() for layer in found]}

    return context.phase("likeness", "likeness: how the images vary beside the training images", identity, make)
