"""The phases in order: a config becomes a result, one row of a table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from dfkd_exp import console
from dfkd_exp.distillation.settings import FromData, FromNoise, FromReconstruction, SameBytes
from dfkd_exp.distillation.source import Shown, images_in_bytes, noise_images
from dfkd_exp.logger import NoLogger
from dfkd_exp.phases.context import LazyData, RunContext
from dfkd_exp.phases.owner import make_metadata, make_release, make_teacher
from dfkd_exp.phases.privacy import measure_privacy
from dfkd_exp.phases.receiver import evaluate, make_reconstruction, make_student
from dfkd_exp.ranks import join, ranks_of_process
from dfkd_exp.reconstruction.module import read_shards
from dfkd_exp.release import Release, copy_release, read_release, usage
from dfkd_exp.report.pictures import draw_images
from dfkd_exp.report.result import build_result
from dfkd_exp.run_folder import NEAREST, PICTURE, RESULT
from dfkd_exp.seeding import derive_seed
from dfkd_exp.store import Store, write_atomically

if TYPE_CHECKING:
    from dfkd_exp.config import Config


def run(config: Config, folder: Path, overrides: list[str]) -> dict[str, Any] | None:
    """Run the config's phases; write result.json and the picture into ``folder`` and return the result.

    With ``pipeline=release`` write the release folder and return None, as all but the first of several processes do.
    ``overrides``: what was said on the command line.
    """
    join(config.trainer.accelerator)
    ranks = ranks_of_process()
    logger = config.logger if ranks.first else NoLogger()
    context = RunContext(Store(Path(config.outputs, "store")), config.trainer, logger, ranks)
    result, picture, failed = None, None, True
    logger.start(folder, config.plain(), _tags(config))
    try:
        data = LazyData(config.data, context)
        release = release_of(config, context, data)
        if config.pipeline == "release":
            failed = False
            if not ranks.first:
                return None
            copied = copy_release(release, Path(config.release or folder / "release"))
            console.show(escape(f"\nreleased: {copied.folder}  ({_size(copied.folder):,} bytes)"))
            console.note(f"whoever has it runs: {usage(copied.config, copied.folder)} student=…")
            return None
        shown = shown_to_student(config, context, release, data)
        student = make_student(
            context, release, config.teacher, shown, config.student, config.distillation, config.seed
        )
        evaluate(context, release, config.teacher, student, config.student, data)
        if config.privacy:
            measure_privacy(context, release, config.teacher, shown, student, config.student, data, config.seed)
        if not ranks.first:
            return None
        result = build_result(config, overrides, release, shown, context.artifacts)
        picture = make_picture(context, release, shown, data, folder / PICTURE)
        if config.privacy:
            shutil.copyfile(context.artifacts["exposure"].file(NEAREST), folder / NEAREST)
        write_atomically(folder / RESULT, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
        failed = False
    finally:
        logger.finish(result or {}, picture, failed)
    return result


def _tags(config: Config) -> list[str]:
    """By what people look for a run."""
    networks = [network.target.rpartition(".")[2] or network.name for network in (config.teacher, config.student)]
    choices = [type(choice).__name__ for choice in (config.metadata, config.source, config.reconstruction)]
    return list(dict.fromkeys([config.name, *networks, *choices]))


def release_of(config: Config, context: RunContext, data: LazyData) -> Release:
    """Left of the wall: the release, made from the data or given."""
    if config.pipeline == "from_release":
        release = read_release(config.release or "")
        console.heading(f"release: {release.folder}")
        console.note(f"{release.metadata().num_bytes:,} bytes of metadata, {len(release.classes)} classes, verified")
        return release
    teacher = make_teacher(context, config.teacher, config.training, data, config.seed)
    metadata = make_metadata(context, config.metadata, config.teacher, teacher, data)
    return make_release(context, config.teacher, teacher, metadata, data)


def shown_to_student(config: Config, context: RunContext, release: Release, data: LazyData) -> Shown:
    """What the student sees: the source's images, reconstructed if that is what they are."""
    source, num_classes = config.source, len(release.classes)
    if isinstance(source, FromReconstruction):
        artifact = make_reconstruction(
            context, release, config.teacher, config.reconstruction, config.optimizer, config.engine, config.seed
        )

        def reconstructions():
            images = read_shards(artifact.path)
            return images.inputs, images.labels

        num_bytes = release.metadata().num_bytes
        return Shown(
            f"{artifact.info['images']:,} reconstructions",
            {"images": artifact.digest},
            reconstructions,
            True,
            num_bytes,
        )
    if isinstance(source, FromNoise):
        count = source.images or config.reconstruction.images_per_class * num_classes
        seed = derive_seed(config.seed, "noise")
        identity = {**source.identity(), "images": count, "seed": seed}
        return Shown(
            f"{count:,} images of noise",
            identity,
            lambda: (noise_images(source, release.inputs, count, seed), None),
            True,
            0,
        )
    if isinstance(source, SameBytes):
        num_bytes, seed = release.metadata().num_bytes, derive_seed(config.seed, "same bytes")

        def few():
            chosen = images_in_bytes(data.images.train, num_classes, num_bytes, data.images.bytes_per_image, seed)
            return chosen.images, chosen.labels

        identity = {**source.identity(), "data": data.fingerprint, "num_bytes": num_bytes, "seed": seed}
        return Shown(f"as many real images as fit into {num_bytes:,} bytes", identity, few, False, num_bytes)
    assert isinstance(source, FromData)

    def everything():
        return data.images.train.images, data.images.train.labels

    identity = {**source.identity(), "data": data.fingerprint}
    return Shown("the training images", identity, everything, False, 0)


def make_picture(context: RunContext, release: Release, shown: Shown, data: LazyData, target: Path) -> Path:
    """The student's images, a row per class, beside the class means."""
    identity = {"shown": shown.identity, "data": data.fingerprint, "release": release.digest}

    def make(folder: Path) -> dict[str, Any]:
        images, labels = shown.load()
        real = data.images.train if data.settings.available else None
        draw_images(folder / PICTURE, images, labels, release.inputs, release.classes, real)
        return {}

    artifact = context.store.get_or_make("picture", identity, 1, make)
    shutil.copyfile(artifact.file(PICTURE), target)
    return target


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
