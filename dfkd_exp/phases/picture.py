"""The picture of what a student was taught on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.phases.context import VERSIONS, LazyData, RunContext
from dfkd_exp.release.folder import Release
from dfkd_exp.run_folder import PICTURE
from dfkd_exp.store import Artifact
from dfkd_exp.training.transfer_set import FixedImages, TransferSet


def make_picture(
    context: RunContext,
    release: Release,
    transfer_set: TransferSet,
    student: Artifact,
    distillation: Distillation,
    data: LazyData,
    target: Path,
) -> Path:
    """The student's images, a row per class, beside the class means, and some of them as it is shown them."""
    shown_by = distillation.suited_to(release.inputs.shape)
    augmentation = shown_by.augmentation
    identity = {
        "transfer_set": transfer_set.identity,
        "data": data.fingerprint,
        "release": release.digest,
        "augmentation": augmentation.identity(),
    }
    if transfer_set.follows_student:
        identity["student"] = student.digest

    def make(folder: Path) -> dict[str, Any]:
        from dfkd_exp.report.pictures import MOST_CLASSES, SAMPLES, draw_images

        preview, real = transfer_set.preview(min(MOST_CLASSES, len(release.classes)), SAMPLES), None
        if data.settings.available:
            train = data.images.train
            of_all = FixedImages.of(train.images, train.labels if preview.labelled else None)
            real = of_all.preview(len(preview.means), 0)
        features = data.images.features if data.settings.available else []
        moved = preview.as_shown(shown_by, release.inputs) if augmentation.changes else []
        draw_images(folder / PICTURE, preview, release.classes, real, features, moved)
        return {}

    artifact = context.store.get_or_make("picture", identity, VERSIONS["picture"], make)
    shutil.copyfile(artifact.file(PICTURE), target)
    return target
