"""The phases in order: a config becomes a result, one row of a table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from dfkd_exp import console
from dfkd_exp.distillation.source import Resources
from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.files import write_atomically
from dfkd_exp.logger import NoLogger
from dfkd_exp.phases.context import LazyData, RunContext
from dfkd_exp.phases.likeness import measure_likeness
from dfkd_exp.phases.owner import make_metadata, make_release, make_teacher
from dfkd_exp.phases.picture import make_picture
from dfkd_exp.phases.privacy import measure_privacy
from dfkd_exp.phases.receiver import evaluate, make_student
from dfkd_exp.phases.reconstruction import Asked, make_reconstruction, objective_of
from dfkd_exp.phases.rehearsal import Rehearsal
from dfkd_exp.phases.shadows import measure_shadows
from dfkd_exp.ranks import join, ranks_of_process
from dfkd_exp.release.alone import TeacherAlone
from dfkd_exp.release.card import usage
from dfkd_exp.release.folder import CARD, Release, copy_release, read_release
from dfkd_exp.release.hub import local_folder, require_folder
from dfkd_exp.report.result import build_result
from dfkd_exp.run_folder import LIKENESS, NEAREST, PICTURE, RELEASED, RESULT
from dfkd_exp.store import Store
from dfkd_exp.training.transfer_set import TransferSet

if TYPE_CHECKING:
    from dfkd_exp.config.tree import Config
    from dfkd_exp.metadata.kind import MetadataKind


def run(config: Config, folder: Path, overrides: list[str], instead: Sequence[str] = ()) -> dict[str, Any] | None:
    """Run the config's phases; write result.json and the picture into ``folder`` and return the result.

    With ``pipeline=release`` write the release folder and return None, as all but the first of several processes do.
    ``overrides``: what was said on the command line; ``instead``: which of it stands in the place of the experiment's own task.
    """
    if config.pipeline == "release":
        require_folder(config.release)
    join(config.trainer.accelerator)
    ranks = ranks_of_process()
    logger = config.logger if ranks.first else NoLogger()
    context = RunContext(Store(Path(config.outputs, "store")), config.trainer, logger, ranks)
    result, picture, failed = None, None, True
    logger.start(folder, config.plain(), _tags(config))
    try:
        data = LazyData(config.data, context)
        context.rehearse = rehearsal = Rehearsal(config, data, context, overrides, folder.parent)
        release = rehearsal.release = release_of(config, context, data, overrides)
        if config.pipeline == "release":
            if config.shadows:
                measure_shadows(context, config, release, data, transfer_set_of)
            failed = False
            if not ranks.first:
                return None
            copied = copy_release(release, Path(config.release or folder / "release"))
            said = f"released: {copied.folder}  ({_size(copied.folder):,} bytes)"
            write_atomically(folder / RELEASED, f"{said}\n".encode())
            console.show(escape(f"\n{said}"))
            console.note(f"on the Hugging Face Hub: hf upload ORG/NAME {copied.folder}, after a look at its {CARD}")
            console.note(f"whoever has it runs: {usage(copied.config, copied.folder)} student=…")
            return None
        transfer_set = transfer_set_of(config, context, release, data)
        student = make_student(context, release, transfer_set, config.student, config.distillation, config.seed)
        evaluate(context, release, student, config.student, data)
        if config.privacy:
            measure_privacy(context, release, transfer_set, student, config.student, data, config.seed)
        if config.shadows:
            measure_shadows(context, config, release, data, transfer_set_of)
        if config.likeness:
            measure_likeness(context, release, transfer_set, student, data, config.seed)
        if not ranks.first:
            return None
        result = build_result(config, overrides, instead, release, transfer_set, context.artifacts)
        picture = make_picture(context, release, transfer_set, student, config.distillation, data, folder / PICTURE)
        if config.privacy:
            shutil.copyfile(context.artifacts["privacy"].file(NEAREST), folder / NEAREST)
        if config.likeness:
            shutil.copyfile(context.artifacts["likeness"].file(LIKENESS), folder / LIKENESS)
        write_atomically(folder / RESULT, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
        failed = False
    finally:
        logger.finish(result or {}, picture, failed)
    return result


def _tags(config: Config) -> list[str]:
    """By what people look for a run."""
    networks = [config.teacher.title, config.student.title]
    choices = [type(choice).__name__ for choice in (config.metadata, config.source, config.reconstruction)]
    return list(dict.fromkeys([config.name, *networks, *choices]))


def release_of(config: Config, context: RunContext, data: LazyData, overrides: list[str]) -> Release:
    """Left of the wall: the release, made from the data or given; of a given one without its metadata, with ``metadata=none``."""
    if config.pipeline == "from_release":
        try:
            release = read_release(local_folder(config.release or ""), config.teacher)
        except DfkdError as error:
            raise DfkdError(f"release={config.release}: {error}") from error
        said = next((text for text in overrides if text.startswith("metadata=")), None)
        if said and config.metadata.publishes and not _is_of(release, config.metadata):
            raise ConfigError(
                f"{said}: the release has {release.metadata_kind}; leave it out, or say metadata=none to use the teacher alone"
            )
        data.number_as(release.classes)
        console.heading(f"release: {release.folder}")
        if not config.metadata.publishes:
            console.note(f"its {release.metadata_bytes:,} bytes of metadata are left aside (metadata=none)")
            return TeacherAlone.of(release)
        console.note(f"{release.metadata_bytes:,} bytes of metadata, {len(release.classes)} classes, verified")
        return release
    teacher = make_teacher(context, config.teacher, config.training, data, config.seed)
    metadata = make_metadata(context, config.metadata, config.teacher, teacher, data)
    return make_release(context, config.teacher, teacher, metadata, data)


def _is_of(release: Release, kind: MetadataKind) -> bool:
    """Whether the release's metadata are of that kind, and not of another."""
    return type(kind.suited_to(release.teacher(), release.inputs)).__name__ == release.metadata_kind


def transfer_set_of(config: Config, context: RunContext, release: Release, data: LazyData) -> TransferSet:
    """What the student is taught on; reconstructed if the source asks for that."""
    asked = Asked(
        config.reconstruction, config.parametrisation, list(config.terms.values()), config.optimizer, config.engine, config.seed
    )  # fmt: skip
    reconstruct = partial(make_reconstruction, context, release, asked)
    num_images = config.reconstruction.images_per_class * len(release.classes)
    objective = partial(objective_of, context, release, asked)
    return config.source.transfer_set(
        Resources(
            release,
            data,
            reconstruct,
            num_images,
            config.seed,
            objective,
            config.optimizer,
            asked.identity(),
            config.distillation.epochs,
            config.distillation.holdout,
        )
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
