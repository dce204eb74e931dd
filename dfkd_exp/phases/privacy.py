"""The phase that measures what is given away: of the training images, by the metadata, the reconstructions and the student."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp.models.kind import Network
from dfkd_exp.phases.context import LazyData, RunContext, load_network
from dfkd_exp.phases.reconstruction import resolved, signals_of
from dfkd_exp.release.folder import Release
from dfkd_exp.run_folder import NEAREST
from dfkd_exp.seeding import derive_seed
from dfkd_exp.store import Artifact
from dfkd_exp.training.transfer_set import Batch, FixedImages, TransferSet

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_BYTES = 2**29
"""Of images as inputs, at most: of those that the student was shown, at random, and of those among which neighbours are looked for."""
LOOKED_AT = 1_000
"""Images that the student was shown, at random, whose nearest neighbours are looked for."""
NEIGHBOURS = 10_000
"""Training images, and as many held-out ones, at most and as far as they fit, among which nearest neighbours are looked for."""


def measure_privacy(
    context: RunContext,
    release: Release,
    transfer_set: TransferSet,
    student: Artifact,
    settings: Network,
    data: LazyData,
    seed: int,
) -> Artifact:
    """Membership inference against the teacher alone, the metadata, what the student was shown, and the student; and the nearest
    training and held-out images to what it was shown, as figures and as a picture.

    Members are the images that what is attacked was made from: all training images, or those that were recorded or shown.
    """
    identity = {
        **release.identity, "student": student.digest, "network": settings.function(), "data": data.fingerprint,
        "transfer_set": transfer_set.identity, "seed": seed,
    }  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        import torch

        from dfkd_exp.evaluation.attacks import attack, confidence_scores, image_scores, metadata_scores, nearest
        from dfkd_exp.evaluation.members import candidates, recorded
        from dfkd_exp.evaluation.metrics import predict_logits
        from dfkd_exp.report.pictures import Neighbours, draw_neighbours

        images, inputs = data.images, release.inputs
        generator = torch.Generator().manual_seed(derive_seed(seed, "privacy"))
        teacher = release.teacher()
        metadata = resolved(release, teacher, signals_of(context, release))
        network = load_network(settings, student, inputs, len(release.classes)).to(context.device)
        teacher = teacher.to(context.device)
        at_most = max(1, IMAGE_BYTES // (4 * math.prod(inputs.shape)))
        count = min(at_most, max(len(transfer_set), transfer_set.num_images))
        shown, of_real = _some_of(transfer_set, count, derive_seed(seed, "privacy"))
        seen = inputs.from_pixels(shown.pixels)

        everyone = torch.arange(len(images.train))
        recorded_images = release.metadata().num_recorded
        of_metadata = everyone
        if recorded_images is not None:
            of_metadata = recorded(images.train, inputs, metadata.num_classes, recorded_images)
        of_shown = of_metadata if of_real is None else of_real
        attacks = {}
        for name, members, score in (
            ("teacher", everyone, lambda part: confidence_scores(predict_logits(teacher, part.images, inputs), part.labels)),
            ("metadata", of_metadata, lambda part: metadata_scores(metadata, teacher, part.images, part.labels)),
            ("shown", of_shown, lambda part: image_scores(part.images, part.labels, inputs, seen, shown.labels)),
            ("student", of_shown, lambda part: confidence_scores(predict_logits(network, part.images, inputs), part.labels)),
        ):  # fmt: skip
            both = candidates(images.train.select(members), images.test, generator)
            achieved = attack(*map(score, both))
            attacks[name] = {"members": len(both[0]), "others": len(both[1]), **achieved.plain()}
        looked_at = torch.randperm(len(seen), generator=generator)[:LOOKED_AT]
        pool_size = min(NEIGHBOURS, at_most, len(images.train), len(images.test))
        pools = [
            inputs.from_pixels(part.images[torch.randperm(len(part), generator=generator)[:pool_size]])
            for part in (images.train, images.test)
        ]
        near = [nearest(seen[looked_at], pool) for pool in pools]
        found = Neighbours(seen[looked_at], pools[0][near[0][1]], pools[1][near[1][1]], near[0][0], near[1][0])
        draw_neighbours(folder / NEAREST, found, inputs, images.features)
        return {
            "attacks": attacks,
            "nearest": {
                "training": float(near[0][0].mean()),
                "held_out": float(near[1][0].mean()),
                "nearer_to_training": float((near[0][0] < near[1][0]).double().mean()),
                "among": pool_size,
            },
        }

    return context.phase("privacy", "privacy: attacks on teacher, metadata, images and student", identity, make)


def _some_of(transfer_set: TransferSet, count: int, seed: int) -> tuple[Batch, Tensor | None]:
    """At most ``count`` images that the student was shown; and, if they are real, which of the training set they are. A codec has changed
    their pixels, perhaps: it is said by the set, and not found out from them."""
    if not isinstance(transfer_set, FixedImages) or transfer_set.members is None:
        return next(transfer_set.sample(count, seed)), None
    import torch

    chosen = torch.randperm(transfer_set.num_images, generator=torch.Generator().manual_seed(seed))[:count]
    return transfer_set.take(chosen), transfer_set.members()[chosen].sort().values
