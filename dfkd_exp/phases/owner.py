"""Left of the wall, the owner's phases: what needs the data. Each reads artifacts and writes one; pipeline.py puts them in order.

Nothing is computed twice: see store.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp import console
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import WORK, write_atomically
from dfkd_exp.harmless import brief
from dfkd_exp.inputs import InputSpec, described
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.models.kind import Network
from dfkd_exp.phases.claims import Claim, tell_accuracy
from dfkd_exp.phases.context import LazyData, RunContext, built, load_network, weights_bytes
from dfkd_exp.ranks import Ranks
from dfkd_exp.release.folder import MODEL, Release, read_release, write_release
from dfkd_exp.seeding import derive_seed
from dfkd_exp.store import Artifact
from dfkd_exp.training.settings import Training
from dfkd_exp.training.transfer_set import FixedImages

if TYPE_CHECKING:
    from dfkd_exp.metadata.collection import Collector

UNEQUAL = 2
"""Where the largest class has so many times the images of the smallest, that is said."""


def make_teacher(context: RunContext, settings: Network, training: Training, data: LazyData, seed: int) -> Artifact:
    """Train the teacher on the data, unless it is pretrained; ``model.safetensors``."""
    identity = {"teacher": settings.identity(), "data": data.fingerprint, **context.trainer.identity()}
    if not settings.trained:
        identity |= {"training": training.identity(), "seed": seed}

    def make(folder: Path) -> dict[str, Any]:
        from dfkd_exp.evaluation.metrics import accuracy, predict_logits
        from dfkd_exp.training.supervised import train_on_labels

        images = data.images
        inputs = wanted_inputs(settings, data)
        network, claimed = built(settings, inputs, len(images.classes), derive_seed(seed, "teacher"))
        check_order(settings.class_names(inputs), images.classes, settings.title)
        if not settings.trained:
            train_on_labels(
                network, FixedImages.of(images.train.images, images.train.labels), inputs, training, derive_seed(seed, "teacher"),
                label="training the teacher", trainer=context.trainer, logger=context.logger.for_phase("teacher"),
                resume=folder / WORK / "fit.ckpt",
            )  # fmt: skip
        if context.ranks.first:
            write_atomically(folder / MODEL, weights_bytes(network))
        logits = predict_logits(network.to(context.device), images.test.images, inputs)
        return {
            "test_accuracy": accuracy(logits, images.test.labels), "inputs": inputs.to_json(), "num_classes": len(images.classes),
            "claimed_accuracy": claimed,
        }  # fmt: skip

    verb = "loading" if settings.trained else "fine-tuning" if settings.pretrained else "training"
    teacher = context.phase("teacher", f"teacher: {verb} {settings.title}", identity, make, by="all")
    if settings.trained:
        said = teacher.info
        claim = said["claimed_accuracy"] and Claim("its file", said["claimed_accuracy"])
        tell_accuracy(settings.title, said["test_accuracy"], said["num_classes"], claim)
    return teacher


def wanted_inputs(settings: Network, data: LazyData) -> InputSpec:
    """What the teacher takes of the data's images; DfkdError if they are of another shape."""
    given = data.settings.inputs(data.outline.shape)
    wanted = settings.wanted_inputs(given)
    if wanted.shape != given.shape:
        raise DfkdError(
            f"{settings.title} wants {described(wanted.shape)}, the data's are of shape {list(given.shape)}; "
            f"{data.way_to(wanted.shape)}"
        )
    return wanted


def check_order(names: list[str], classes: list[str], title: str) -> None:
    """Raise DfkdError if the network called ``title`` has the data's classes, by their names, in another order."""
    ours, theirs = ([name.strip().lower() for name in some] for some in (classes, names))
    if ours != theirs and sorted(ours) == sorted(theirs):
        raise DfkdError(
            f"{title} has the classes in another order than the data: {brief(', '.join(names))}, and not "
            f"{brief(', '.join(classes))}; bring the data's into its order, or train the head anew on them"
        )


def make_metadata(
    context: RunContext, kind: MetadataKind, settings: Network, teacher: Artifact, data: LazyData
) -> Artifact:
    """Collect the metadata in one pass over the training images; ``metadata.safetensors``."""
    inputs = InputSpec.from_json(teacher.info["inputs"])
    identity = {
        "metadata": kind.identity(),
        "teacher": teacher.digest,
        "network": settings.function(),
        "inputs": teacher.info["inputs"],
        "data": data.fingerprint,
    }

    def make(folder: Path) -> dict[str, Any]:
        from dfkd_exp.metadata.card import images_behind, warning_of_few

        images = data.images
        kind.check_images(len(images.train))
        network = load_network(settings, teacher, inputs, len(images.classes)).to(context.device)
        if (suited := kind.suited_to(network, inputs)) is not kind:
            console.note(f"metadata chosen for these images and this teacher: {suited.in_short()}")
        collector = suited.collector(network, inputs)
        if kind.needs_images:
            with console.Progress("collecting metadata", len(images.train) // context.ranks.world) as progress:
                for batch in images.train.by_class(inputs.images_at_once, context.ranks):
                    shown = inputs.from_pixels(batch.images.to(context.device))
                    collector.update(shown, batch.labels, batch.images)
                    progress.advance(len(batch))
        if not merged(collector, context.ranks, folder / WORK):
            return {}
        metadata = collector.finish()
        if (counts := metadata.counts) and max(counts) >= UNEQUAL * min(counts):
            console.note(f"training images: {images_behind(metadata, images.classes)}")
        if counts and (few := warning_of_few(counts, images.classes)):
            console.warn(few)
        metadata.save(folder / "metadata.safetensors")
        return {"metadata_bytes": metadata.num_bytes}

    return context.phase("metadata", f"metadata: collecting {type(kind).__name__}", identity, make, by="all")


def merged(collector: Collector, ranks: Ranks, folder: Path) -> bool:
    """Add to the first process's collector what the others have seen, through files in ``folder``; whether this is the first."""
    from safetensors.torch import load_file, save

    if not ranks.first:
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"process-{ranks.rank}.safetensors", save(collector.state()))
    ranks.barrier()
    if ranks.first:
        for rank in range(1, ranks.world):
            collector.merge_state(load_file(folder / f"process-{rank}.safetensors"))
    return ranks.first


def make_release(
    context: RunContext, settings: Network, teacher: Artifact, metadata: Artifact, data: LazyData
) -> Release:
    """Write the release folder into the store and read it back."""
    architecture = settings.architecture()
    identity = {
        "architecture": architecture,
        "network": settings.function(),
        "teacher": teacher.digest,
        "metadata": metadata.digest,
        "data": data.fingerprint,
    }

    def make(folder: Path) -> dict[str, Any]:
        from dfkd_exp.metadata.metadata import Metadata

        statistics = Metadata.load(metadata.file("metadata.safetensors"))
        network = load_network(settings, teacher, statistics.inputs, statistics.num_classes)
        shutil.rmtree(folder / "release", ignore_errors=True)  # what a killed run left
        write_release(
            folder / "release", network, statistics, architecture, data.images.classes, teacher.info["test_accuracy"],
            data.settings.remark,
        )  # fmt: skip
        return {}

    artifact = context.phase("release", "release: writing the folder that is published", identity, make)
    return read_release(artifact.path / "release", settings)
