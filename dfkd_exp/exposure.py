"""The phase that measures what is given away: of the training images, by the metadata, the reconstructions and the student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dfkd_exp.distillation.settings import Student, Teacher
from dfkd_exp.distillation.source import Shown
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.evaluation.privacy import attack, confidence_scores, image_scores, metadata_scores, nearest
from dfkd_exp.receiver import in_units
from dfkd_exp.release import Release
from dfkd_exp.report.pictures import Neighbours, draw_neighbours
from dfkd_exp.seeding import derive_seed
from dfkd_exp.store import Artifact
from dfkd_exp.workshop import LazyData, Workshop, load_network

CANDIDATES = 2_000
"""Training images, and as many held-out ones, that the attacks are to tell apart."""
LOOKED_AT = 1_000
"""Of the images that the student was shown, whose nearest neighbours are looked for,"""
NEIGHBOURS = 10_000
"""among so many training images and as many held-out ones, at most."""
PICTURE = "nearest.png"


def measure_exposure(
    workshop: Workshop,
    release: Release,
    receiver: Teacher,
    shown: Shown,
    student: Artifact,
    settings: Student,
    data: LazyData,
    seed: int,
) -> Artifact:
    """Membership inference against the teacher alone, the metadata, what the student was shown, and the student; and the nearest
    training and held-out images to what it was shown, as figures and as a picture."""
    identity = {
        "release": release.digest, "student": student.digest, "data": data.fingerprint, "shown": shown.identity, "seed": seed,
    }  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        images, inputs = data.images, release.inputs
        generator = torch.Generator().manual_seed(derive_seed(seed, "exposure"))
        count = min(CANDIDATES, len(images.train), len(images.test))
        candidates = [
            part.select(torch.randperm(len(part), generator=generator)[:count]) for part in (images.train, images.test)
        ]
        teacher = release.teacher(receiver)
        metadata = in_units(workshop, release, teacher)
        network = load_network(settings, student, inputs, len(release.classes))
        seen, seen_labels = shown.load()
        seen = seen if seen.is_floating_point() else inputs.from_pixels(seen)
        scores: dict[str, list[torch.Tensor]] = {"teacher": [], "metadata": [], "shown": [], "student": []}
        for part in candidates:
            as_inputs = inputs.from_pixels(part.images)
            scores["teacher"].append(confidence_scores(predict_logits(teacher, part.images, inputs), part.labels))
            scores["metadata"].append(metadata_scores(metadata, teacher, as_inputs, part.labels))
            scores["shown"].append(image_scores(as_inputs, part.labels, seen, seen_labels))
            scores["student"].append(confidence_scores(predict_logits(network, part.images, inputs), part.labels))
        looked_at = torch.randperm(len(seen), generator=generator)[:LOOKED_AT]
        among = min(NEIGHBOURS, len(images.train), len(images.test))
        pools = [
            inputs.from_pixels(part.images[torch.randperm(len(part), generator=generator)[:among]])
            for part in (images.train, images.test)
        ]
        near = [nearest(seen[looked_at], pool) for pool in pools]
        found = Neighbours(seen[looked_at], pools[0][near[0][1]], pools[1][near[1][1]], near[0][0], near[1][0])
        draw_neighbours(folder / PICTURE, found, inputs)
        return {
            "attacks": {name: attack(*pair).plain() for name, pair in scores.items()},
            "candidates": count,
            "nearest": {
                "training": float(near[0][0].mean()),
                "held_out": float(near[1][0].mean()),
                "nearer_to_training": float((near[0][0] < near[1][0]).double().mean()),
                "among": among,
            },
        }

    return workshop.phase("exposure", "privacy: what the training images are given away by", identity, make)
