"""Right of the wall, the receiver's phases: they need the release and nothing else, but for a test set to measure true accuracy.

Each reads artifacts and writes one; pipeline.py puts them in order. Nothing is computed twice: see store.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfkd_exp.distillation.distill import train_on_teacher
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.distillation.source import Shown, held_out
from dfkd_exp.errors import DfkdError, Pruned
from dfkd_exp.evaluation.metrics import accuracy, agreement, predict_logits
from dfkd_exp.models.kind import Network
from dfkd_exp.models.recording import num_parameters
from dfkd_exp.phases.context import LazyData, RunContext, load_network, weights_bytes
from dfkd_exp.release import MODEL, Release
from dfkd_exp.seeding import derive_seed
from dfkd_exp.store import WORK, Artifact, write_atomically
from dfkd_exp.sweeps.trial import trial_of_process
from dfkd_exp.training.supervised import train_on_labels

TRAINING_IMAGES = 10_000
"""Of the training set, from its end, on which agreement is measured: what recipes are chosen by, since the test set must not be."""


def make_student(
    context: RunContext,
    release: Release,
    teacher_settings: Network,
    shown: Shown,
    settings: Network,
    distillation: Distillation,
    seed: int,
) -> Artifact:
    """Distil the student on what it is shown; ``model.safetensors``."""
    # The release stands for the teacher, whose weights are in it.
    identity = {
        "student": settings.identity(), "distillation": distillation.identity(), "release": release.digest,
        "shown": shown.identity, "seed": seed, **context.trainer.identity(),
    }  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        inputs, num_classes = release.inputs, len(release.classes)
        network = settings.build(inputs, num_classes, derive_seed(seed, "student"))
        images, labels = shown.load()
        train, rest = held_out(len(images), distillation.holdout if shown.free else 0.0, derive_seed(seed, "holdout"))
        if len(rest):  # else all of them, uncopied: they may be more than memory holds
            held, images, labels = images[rest], images[train], None if labels is None else labels[train]
        options: dict[str, Any] = {
            "label": "training the student", "trainer": context.trainer,
            "logger": context.logger.for_phase("student"), "resume": folder / WORK / "fit.ckpt",
        }  # fmt: skip
        fit_seed = derive_seed(seed, "student")
        teacher = release.teacher(teacher_settings)
        trial = trial_of_process()
        if trial is not None and len(rest):

            def look(part: int) -> None:
                both = [predict_logits(net.to(context.device), held, inputs) for net in (network, teacher)]
                # All processes of the run end together.
                if reason := context.ranks.agreed(lambda: trial.report(agreement(*both), part)):
                    raise Pruned(reason)

            options["look"] = look
        if distillation.targets == "labels":
            if labels is None:
                raise DfkdError("distillation.targets=labels needs images that have labels; noise has none")
            train_on_labels(network, images, labels, inputs, distillation, fit_seed, **options)
        else:
            train_on_teacher(network, teacher, images, inputs, distillation, fit_seed, **options)
        if context.ranks.first:
            write_atomically(folder / MODEL, weights_bytes(network))
        agreed = None
        if len(rest):
            both = [predict_logits(net.to(context.device), held, inputs) for net in (network, teacher)]
            agreed = agreement(*both)
        return {"images": len(train), "agreement_held_out": agreed, "num_parameters": num_parameters(network)}

    title = f"student: distilling {settings.title}"
    if distillation.targets == "labels":
        title = f"student: training {settings.title} on labels"
    return context.phase("student", f"{title} on {shown.title}", identity, make, by="all")


def evaluate(
    context: RunContext,
    release: Release,
    teacher_settings: Network,
    student: Artifact,
    settings: Network,
    data: LazyData,
) -> Artifact:
    """True accuracy of student and teacher on the test set, and their agreement there and on training images; ``null`` where there is
    no data."""
    identity = {"release": release.digest, "student": student.digest, "data": data.fingerprint}

    def make(folder: Path) -> dict[str, Any]:
        if not data.settings.available:
            none = dict.fromkeys(("accuracy", "teacher_accuracy", "agreement", "agreement_training"))
            return {**none, "test_images": 0}
        test = data.images.test
        if data.images.shape != release.inputs.shape:
            raise DfkdError(
                f"the release is for images of shape {list(release.inputs.shape)}, the data's are {list(data.images.shape)}; "
                "set data.pad or data.size as its owner did"
            )
        if int(test.labels.max()) >= len(release.classes):
            raise DfkdError(
                f"the data has more classes than the release's {len(release.classes)}; choose the data that it is for"
            )
        networks = (
            load_network(settings, student, release.inputs, len(release.classes)),
            release.teacher(teacher_settings),
        )
        training = data.images.train.images[-TRAINING_IMAGES:]
        (student_logits, teacher_logits), on_training = (
            [predict_logits(n.to(context.device), images, release.inputs) for n in networks]
            for images in (test.images, training)
        )
        return {
            "accuracy": accuracy(student_logits, test.labels),
            "teacher_accuracy": accuracy(teacher_logits, test.labels),
            "agreement": agreement(student_logits, teacher_logits),
            "agreement_training": agreement(*on_training),
            "test_images": len(test),
        }

    where = "on the test set" if data.settings.available else "on held-out reconstructions alone, for want of data"
    return context.phase("evaluation", f"evaluation {where}", identity, make)
