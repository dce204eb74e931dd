"""Right of the wall, the receiver's phases: they need the release and nothing else, but for a test set to measure true accuracy.

Each reads artifacts and writes one; pipeline.py puts them in order. Nothing is computed twice: see store.py.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dfkd_exp import console
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.errors import DfkdError, Pruned
from dfkd_exp.files import WORK, write_atomically
from dfkd_exp.inputs import described
from dfkd_exp.models.kind import Network
from dfkd_exp.phases.claims import Claim, tell_accuracy
from dfkd_exp.phases.context import LazyData, RunContext, built, load_network, weights_bytes
from dfkd_exp.release.folder import MODEL, Release
from dfkd_exp.seeding import derive_seed
from dfkd_exp.store import Artifact
from dfkd_exp.sweeps.trial import trial_of_process
from dfkd_exp.training.transfer_set import FixedImages, TransferSet

TRANSFER_SET = "transfer_set.safetensors"
"""The state of a transfer set that followed its student."""


def snapshot_file(epoch: int) -> str:
    """Where in a student's artifact its weights after an epoch are, counted from 1."""
    return f"snapshots/{epoch:06d}.safetensors"


def make_student(
    context: RunContext,
    release: Release,
    transfer_set: TransferSet,
    settings: Network,
    distillation: Distillation,
    seed: int,
) -> Artifact:
    """Distil the student on the transfer set, which is then as it was at the end; ``model.safetensors`` and its snapshots."""
    asked, distillation = distillation.augmentation, distillation.suited_to(release.inputs.shape)
    # The release stands for the teacher, whose weights are in it.
    identity = {
        "student": settings.identity(), "distillation": distillation.identity(), **release.identity,
        "transfer_set": transfer_set.identity, "seed": seed, **context.trainer.identity(),
    }  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        began = time.perf_counter()

        def clock() -> float:
            return time.perf_counter() - began - context.store.inside

        from safetensors.torch import save

        from dfkd_exp.distillation.distill import MixedAgreement, mixed_agreement, teacher_agreement, train_on_teacher
        from dfkd_exp.models.recording import num_parameters
        from dfkd_exp.training.module import Snapshots
        from dfkd_exp.training.supervised import train_on_labels

        inputs, num_classes = release.inputs, len(release.classes)
        if distillation.augmentation is not asked:
            chosen = distillation.augmentation.in_short() if distillation.augmentation.changes else "none"
            console.note(f"augmentation chosen for these images: {chosen}")
        network, _ = built(settings, inputs, num_classes, derive_seed(seed, "student"))
        images, held = transfer_set.held_out(distillation.holdout, derive_seed(seed, "holdout"))
        options: dict[str, Any] = {
            "label": "training the student", "trainer": context.trainer,
            "logger": context.logger.for_phase("student"), "resume": folder / WORK / "fit.ckpt",
        }  # fmt: skip
        images.keep_in(folder / WORK)
        snapshots = None
        if distillation.snapshots:
            times = min(distillation.snapshots, distillation.epochs)
            snapshots = options["snapshots"] = Snapshots(
                times, lambda epoch: folder / snapshot_file(epoch), weights_bytes, clock
            )
        fit_seed = derive_seed(seed, "student")
        teacher = release.teacher()

        def agreement_on(spared: FixedImages) -> float:
            return teacher_agreement(network.to(context.device), teacher.to(context.device), spared, inputs)

        def agreement_on_mixtures() -> MixedAgreement | None:
            both = network.to(context.device), teacher.to(context.device)
            return mixed_agreement(*both, images, inputs, derive_seed(seed, "mixtures"))

        if context.searched and (trial := trial_of_process()) is not None:

            def look(part: int) -> None:
                agreed = agreement_on_mixtures()
                # All processes of the run end together.
                if agreed and (reason := context.ranks.agreed(lambda: trial.report(agreed.overall, part))):
                    raise Pruned(reason)

            options["look"] = look
        if distillation.targets == "labels":
            if not images.has_labels:
                raise DfkdError(
                    f"distillation.targets=labels needs images that have labels; {transfer_set.title} have none"
                )
            train_on_labels(network, images, inputs, distillation, fit_seed, **options)
        else:
            train_on_teacher(network, teacher, images, inputs, distillation, fit_seed, **options)
        if context.ranks.first:
            write_atomically(folder / MODEL, weights_bytes(network))
            if state := images.left():
                write_atomically(folder / TRANSFER_SET, save(state))
        mixed = agreement_on_mixtures()
        return {
            "images": images.num_images, "images_per_epoch": len(images),
            "agreement_held_out": None if held is None else agreement_on(held),
            "agreement_mixed": mixed and mixed.overall, "agreement_mixed_by_class": mixed and mixed.by_class,
            "num_parameters": num_parameters(network),
            "image_steps": images.image_steps, "snapshots": snapshots.kept if snapshots else [],
        }  # fmt: skip

    title = f"student: distilling {settings.title}"
    if distillation.targets == "labels":
        title = f"student: training {settings.title} on labels"
    artifact = context.phase("student", f"{title} on {transfer_set.title}", identity, make, by="all")
    if artifact.file(TRANSFER_SET).is_file():

        def left() -> dict[str, Any]:
            from safetensors.torch import load_file

            return load_file(artifact.file(TRANSFER_SET))

        transfer_set.take_up(left)
    return artifact


def check_test_set(release: Release, data: LazyData) -> None:
    """Raise DfkdError if the data, where there is any, is not like that of the release."""
    if not data.settings.available:
        return
    if data.outline.shape != release.inputs.shape:
        raise DfkdError(
            f"the release is for {described(release.inputs.shape)}, the data's are of shape {list(data.outline.shape)}; "
            f"{data.way_to(release.inputs.shape)}"
        )
    if data.settings.measured and data.settings.inputs(data.outline.shape) != release.inputs:
        raise DfkdError(
            "the data's values enter the teacher otherwise than its owner's did: their range, mean or deviation was measured here; set "
            "data.range, data.mean and data.std to what the owner says"
        )
    if data.numbered:
        _ = data.numbering  # which raises


def evaluate(
    context: RunContext,
    release: Release,
    student: Artifact,
    settings: Network,
    data: LazyData,
) -> Artifact:
    """True accuracy of student and teacher on the test set, and their agreement there and on training images; ``null`` where there is
    no data. And the accuracy of each of the student's snapshots."""
    identity = {
        **release.identity, "student": student.digest, "network": settings.function(), "data": data.fingerprint,
    }  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        if not data.settings.available:
            none = dict.fromkeys(("accuracy", "teacher_accuracy", "agreement", "agreement_training"))
            return {**none, "test_images": 0, "snapshots": []}
        from dfkd_exp.distillation.distill import training_agreement
        from dfkd_exp.evaluation.metrics import accuracy, agreement, predict_logits

        check_test_set(release, data)
        if data.numbered and (found := data.numbering).note:
            (console.warn if found.by_order else console.note)(found.note)
        test = data.images.test
        learnt = load_network(settings, student, release.inputs, len(release.classes)).to(context.device)
        teacher = release.teacher().to(context.device)
        student_logits, teacher_logits = (
            predict_logits(network, test.images, release.inputs) for network in (learnt, teacher)
        )

        def accuracy_after(epoch: int) -> float:
            network = load_network(settings, student, release.inputs, len(release.classes), snapshot_file(epoch))
            return accuracy(predict_logits(network.to(context.device), test.images, release.inputs), test.labels)

        over_training = []
        if kept := student.info["snapshots"]:
            with console.Progress("snapshots of the student", len(kept)) as progress:
                for snapshot in kept:
                    over_training.append(accuracy_after(snapshot["epoch"]))
                    progress.advance()
        return {
            "accuracy": accuracy(student_logits, test.labels),
            "teacher_accuracy": accuracy(teacher_logits, test.labels),
            "agreement": agreement(student_logits, teacher_logits),
            "agreement_training": training_agreement(learnt, teacher, data.images.train, release.inputs),
            "test_images": len(test),
            "snapshots": over_training,
        }

    where = "on the test set" if data.settings.available else "on held-out reconstructions alone, for want of data"
    artifact = context.phase("evaluation", f"evaluation {where}", identity, make)
    if data.numbered and data.settings.available:
        said = release.teacher_accuracy
        claim = None if said is None else Claim("its release", said, artifact.info["test_images"])
        tell_accuracy("the teacher", artifact.info["teacher_accuracy"], len(release.classes), claim)
    return artifact
