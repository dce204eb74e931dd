"""The phase that measures what is given away as an attack by likelihood ratios does: by shadows, see evaluation/shadows.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp import console
from dfkd_exp.config.tree import Config
from dfkd_exp.data.base import Outline
from dfkd_exp.errors import DfkdError
from dfkd_exp.logger import NoLogger
from dfkd_exp.phases.context import LazyData, RunContext, load_network
from dfkd_exp.phases.owner import make_metadata, make_release
from dfkd_exp.phases.receiver import make_student
from dfkd_exp.release.folder import Release
from dfkd_exp.seeding import derive_seed
from dfkd_exp.store import Artifact
from dfkd_exp.training.transfer_set import TransferSet

if TYPE_CHECKING:
    import torch

    from dfkd_exp.data.images import ImageData, LabelledImages

CANDIDATES = 10_000
"""Images, at most, that are told apart."""


class HalfOfTheData(LazyData):
    """What a shadow is made of: a random half of each class of the training and test images together (`halves`)."""

    def __init__(self, whole: LazyData, context: RunContext, number: int, seed: int):
        super().__init__(whole.settings, context)
        self.whole, self.number, self.seed = whole, number, seed

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        return {**self.whole.fingerprint, "shadow": self.number, "seed": self.seed}

    @cached_property
    def outline(self) -> Outline:
        return self.images.outline

    @cached_property
    def images(self) -> ImageData:
        # Of however many shadows: those that come before are the same.
        inside = insides(self.whole, self.number + 1, self.seed)[self.number]
        return replace(self.whole.images, train=everything(self.whole, inside.nonzero().squeeze(1)))


def everything(data: LazyData, index: torch.Tensor) -> LabelledImages:
    """Those of ``index[N]``, ascending, of the training images with the test images behind them."""
    import torch

    from dfkd_exp.data.images import LabelledImages

    train, test = data.images.train, data.images.test
    parts = train.select(index[index < len(train)]), test.select(index[index >= len(train)] - len(train))
    return LabelledImages(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


def check_classes(data: LazyData) -> None:
    """Raise DfkdError if a class has no two images, of which each shadow of a pair could have one."""
    import torch

    images = data.images
    counts = torch.cat([images.train.labels, images.test.labels]).bincount(minlength=len(images.classes))
    for name, count in zip(images.classes, counts.tolist(), strict=True):
        if count < 2:
            raise DfkdError(
                f"shadows is for two images of each class at least, half of them in each, and class {name} has {count}; give it more, or "
                "leave shadows out"
            )


def insides(data: LazyData, shadows: int, seed: int) -> torch.Tensor:
    """Of which of the training images, with the test images behind them, each shadow is made: ``[K, N]``."""
    import torch

    from dfkd_exp.evaluation.shadows import halves

    labels = torch.cat([data.images.train.labels, data.images.test.labels])
    return halves(labels, shadows, torch.Generator().manual_seed(derive_seed(seed, "shadows")))


def measure_shadows(
    context: RunContext,
    config: Config,
    release: Release,
    data: LazyData,
    transfer_set_of: Callable[[Config, RunContext, Release, LazyData], TransferSet],
) -> Artifact:
    """The attack on the metadata, and with ``shadow_students`` on the student, each tried on ``config.shadows`` halves of the data, with
    the same teacher. What is computed of a shadow is kept in the store, like all else."""
    teacher, seed = context.artifacts["teacher"], config.seed
    metadata, students, seconds = [], [], 0.0
    beside = RunContext(context.store, context.trainer, NoLogger(), context.ranks, context.prepare, searched=False)
    for number in range(config.shadows):
        console.heading(f"shadow {number + 1} of {config.shadows}")
        half = HalfOfTheData(data, context, number, seed)
        metadata.append(make_metadata(beside, config.metadata, config.teacher, teacher, half))
        if config.shadow_students:
            own = make_release(beside, config.teacher, teacher, metadata[-1], half)
            shown = transfer_set_of(config, beside, own, half)
            students.append(make_student(beside, own, shown, config.student, config.distillation, seed))
        seconds += sum(artifact.seconds for artifact in beside.artifacts.values())
        beside.artifacts.clear()
    identity = {
        **release.identity, "data": data.fingerprint, "seed": seed, "metadata": [artifact.digest for artifact in metadata],
        "students": [artifact.digest for artifact in students], "network": config.student.function() if students else None,
    }  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        import torch

        from dfkd_exp.evaluation.attacks import confidence_logits, metadata_misfits
        from dfkd_exp.evaluation.metrics import predict_logits
        from dfkd_exp.evaluation.shadows import attack_on_shadows, likelihood_ratios
        from dfkd_exp.evaluation.tracing import tracing_scores
        from dfkd_exp.metadata.metadata import Metadata

        inside = insides(data, config.shadows, seed)
        chosen = torch.randperm(inside.shape[1], generator=torch.Generator().manual_seed(derive_seed(seed, "attacked")))
        chosen = chosen[:CANDIDATES].sort().values
        inside, images = inside[:, chosen], everything(data, chosen)
        network = release.teacher().to(context.device)
        known, sure = [], []
        with console.Progress("metadata of shadows read", config.shadows) as progress:
            for artifact in metadata:
                known.append(Metadata.load(artifact.file("metadata.safetensors")).resolved(network))
                progress.advance()
        attacked = known, network, images.images, images.labels
        scores = {"metadata_shadows": torch.cat([metadata_misfits(*attacked), tracing_scores(*attacked)], 2)}
        for artifact in students:
            student = load_network(config.student, artifact, release.inputs, len(release.classes)).to(context.device)
            sure.append(confidence_logits(predict_logits(student, images.images, release.inputs), images.labels))
        if students:
            scores["student_shadows"] = torch.stack(sure)[..., None]
        members = round(int(inside.sum()) / config.shadows)
        count = {"shadows": config.shadows, "members": members, "others": len(images) - members}
        attacks = {
            name: {**count, **attack_on_shadows(likelihood_ratios(each, inside, images.labels), inside).plain()}
            for name, each in scores.items()
        }
        return {"attacks": attacks, "seconds_of_shadows": seconds}

    artifact = context.phase("shadows", "shadows: whom they were made of", identity, make)
    for name, found in artifact.info["attacks"].items():
        rate, tried = found["tpr_at_0.1%"]["rate"], found["members"] + found["others"]
        console.note(
            f"{'metadata' if name == 'metadata_shadows' else 'student'} of half of the images: area under the attack's curve "
            f"{found['auc']:.3f} ({found['auc_low']:.3f} to {found['auc_high']:.3f}; 0.5 is chance) on {tried:,} images; of its own "
            f"{rate:.1%} are found while 0.1% of the others are accused. An attack that fails proves nothing"
        )
    return artifact
