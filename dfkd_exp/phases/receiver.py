"""Right of the wall, the receiver's phases: they need the release and nothing else, but for a test set to measure true accuracy.

Each reads artifacts and writes one; pipeline.py puts them in order. Nothing is computed twice: see store.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import nn
from torch.utils.data import DataLoader

from dfkd_exp import console
from dfkd_exp.distillation.distill import teacher_agreement, train_on_labels, train_on_teacher
from dfkd_exp.distillation.settings import Distillation, Student, Teacher
from dfkd_exp.distillation.transfer_set import FixedImages, TransferSet
from dfkd_exp.errors import DfkdError, Pruned
from dfkd_exp.evaluation.metrics import accuracy, agreement, predict_logits
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.metadata.records import Signals
from dfkd_exp.models.recording import num_parameters
from dfkd_exp.phases.context import LazyData, RunContext, load_network, weights_bytes
from dfkd_exp.reconstruction.engine.choose import describe, resolve_engine
from dfkd_exp.reconstruction.engine.settings import Engine
from dfkd_exp.reconstruction.loop import batches_of_groups
from dfkd_exp.reconstruction.module import ReconstructionModule, ShardWriter
from dfkd_exp.reconstruction.optimizers import Optimizer
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.reconstruction.shards import read_losses, shard_name
from dfkd_exp.release import MODEL, Release
from dfkd_exp.seeding import derive_seed
from dfkd_exp.store import WORK, Artifact, write_atomically
from dfkd_exp.sweeps.trial import trial_of_process

SIGNALS = "signals.safetensors"
TRANSFER_SET = "transfer_set.safetensors"
"""The state of a transfer set that followed its student."""
TRAINING_IMAGES = 10_000
"""Of the training set, from its end, on which agreement is measured: what recipes are chosen by, since the test set must not be."""


def in_units(context: RunContext, release: Release, teacher: nn.Module) -> Metadata:
    """The release's metadata as activations of units. Records on a graph become that once: its basis may take minutes."""
    metadata = release.metadata()
    if metadata.graph is None or not metadata.has_records:
        return metadata.in_units(teacher)

    def make(folder: Path) -> dict[str, Any]:
        resolved = metadata.in_units(teacher)
        signals = {str(index): block.summary.tensors()["signals"] for index, block in enumerate(resolved.blocks)}
        write_atomically(folder / SIGNALS, save(signals))
        return {}

    title = "signals: the records as activations, through the graph's basis"
    artifact = context.phase("signals", title, {"release": release.digest}, make)
    signals = load_file(artifact.file(SIGNALS))
    blocks = [
        replace(block, basis="units", summary=Signals(signals[str(index)]))
        for index, block in enumerate(metadata.blocks)
    ]
    return replace(metadata, blocks=blocks, graph=None)


def make_reconstruction(
    context: RunContext,
    release: Release,
    receiver: Teacher,
    settings: Reconstruction,
    optimizer: Optimizer,
    engine: Engine,
    seed: int,
) -> Artifact:
    """Reconstruct images from the release; one safetensors file per batch of groups. Continues from the files there are."""
    ranks = context.ranks
    teacher = release.teacher(receiver)
    metadata = in_units(context, release, teacher)
    settings = settings.chosen_for(teacher, metadata)
    near = teacher.to(context.device), metadata.to(context.device)
    # One of several processes measures, and the others, who wait, do not disturb it.
    engine_used = context.ranks.agreed(
        lambda: resolve_engine(engine, *near, settings, context.store.root / "engine.json")
    )
    identity = {
        "release": release.digest,
        "reconstruction": settings.identity(),
        "optimizer": optimizer.identity(),
        "engine": engine_used.identity(),
        "seed": seed,
    }

    def make(folder: Path) -> dict[str, Any]:
        console.note(describe(engine_used))
        num_groups = settings.groups_per_class * metadata.num_classes
        # Every process has some, and as few batches differ from those of a single process as can be.
        at_once = min(engine_used.images_per_batch, -(-num_groups // ranks.world) * settings.group_size)
        batches = batches_of_groups(settings, optimizer, metadata.num_classes, at_once)
        expected = {shard_name(groups): groups for groups in batches}

        def tidied() -> list[list[int]]:
            for path in folder.iterdir():
                if path.name not in expected and path.is_file():
                    path.unlink()  # of another division into batches
            return [groups for name, groups in expected.items() if not (folder / name).exists()]

        left = ranks.agreed(tidied)
        mine = ranks.share(left)
        steps_per_group = settings.group_size * settings.steps
        done = (num_groups - sum(map(len, left))) // ranks.world * steps_per_group
        with console.Progress("image-steps", done + sum(map(len, mine)) * steps_per_group) as progress:
            progress.skip(done)
            module = ReconstructionModule(teacher, metadata, settings, optimizer, engine_used, seed, progress)
            # The trainer's precision is for training; the images' is not its business.
            runner = replace(context.trainer, precision="32-true").build(callbacks=[ShardWriter(folder)])
            if left:
                batches_left: Any = DataLoader(mine, batch_size=None, collate_fn=list)  # type: ignore[arg-type]
                runner.predict(module, batches_left, return_predictions=False)
        ranks.barrier()
        all_losses, steps = read_losses(folder)
        losses = all_losses.mean(1).tolist()
        if logger := context.logger.for_phase("reconstruction"):
            for index, loss in enumerate(losses):
                logger.log_metrics({"loss": loss}, step=min(index * max(1, settings.steps // 10), settings.steps))
            logger.save()
            logger.finalize("success")
        images = settings.images_per_class * metadata.num_classes
        return {"images": images, "losses": losses, "steps": steps.double().mean().item()}

    count, match = settings.images_per_class * len(release.classes), type(settings).__name__.lower()
    title = f"reconstruction: {count:,} images, {settings.steps:,} steps, match: {match}"
    return context.phase("reconstruction", title, identity, make, by="all")


def make_student(
    context: RunContext,
    release: Release,
    receiver: Teacher,
    transfer_set: TransferSet,
    settings: Student,
    distillation: Distillation,
    seed: int,
) -> Artifact:
    """Distil the student on the transfer set, which is then as it was at the end; ``model.safetensors``."""
    # The release stands for the teacher, whose weights are in it.
    identity = {
        "student": settings.identity(), "distillation": distillation.identity(), "release": release.digest,
        "transfer_set": transfer_set.identity, "seed": seed, **context.trainer.identity(),
    }  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        inputs, num_classes = release.inputs, len(release.classes)
        network = settings.build(inputs, num_classes, derive_seed(seed, "student"))
        images, held = transfer_set.held_out(distillation.holdout, derive_seed(seed, "holdout"))
        options: dict[str, Any] = {
            "label": "training the student", "trainer": context.trainer,
            "logger": context.logger.for_phase("student"), "resume": folder / WORK / "fit.ckpt",
        }  # fmt: skip
        fit_seed = derive_seed(seed, "student")
        teacher = release.teacher(receiver)

        def agreement_on(spared: FixedImages) -> float:
            return teacher_agreement(network.to(context.device), teacher.to(context.device), spared, inputs)

        trial = trial_of_process()
        if trial is not None and held is not None:

            def look(part: int) -> None:
                agreed = agreement_on(held)
                # All processes of the run end together.
                if reason := context.ranks.agreed(lambda: trial.report(agreed, part)):
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
            if state := images.state():
                write_atomically(folder / TRANSFER_SET, save(state))
        return {
            "images": len(images), "agreement_held_out": None if held is None else agreement_on(held),
            "num_parameters": num_parameters(network),
        }  # fmt: skip

    title = f"student: distilling {settings.target or settings.name}"
    if distillation.targets == "labels":
        title = f"student: training {settings.target or settings.name} on labels"
    artifact = context.phase("student", f"{title} on {transfer_set.title}", identity, make, by="all")
    if artifact.file(TRANSFER_SET).is_file():
        transfer_set.load_state(load_file(artifact.file(TRANSFER_SET)))
    return artifact


def evaluate(
    context: RunContext, release: Release, receiver: Teacher, student: Artifact, settings: Student, data: LazyData
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
        networks = (load_network(settings, student, release.inputs, len(release.classes)), release.teacher(receiver))
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
