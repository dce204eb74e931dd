"""What can be known before the first phase that must be computed: whether the later ones can be.

Networks are built and trained for a step, optimisers make one, the layers of the metadata are looked up: seconds, beside hours. What is
reused from the store has been computed, and is not rehearsed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dfkd_exp import console
from dfkd_exp.errors import DfkdError
from dfkd_exp.phases.context import LazyData, RunContext
from dfkd_exp.phases.owner import wanted_inputs
from dfkd_exp.phases.receiver import check_test_set
from dfkd_exp.phases.shadows import check_classes
from dfkd_exp.release.folder import Release, holds_release
from dfkd_exp.seeding import derive_seed

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.config.tree import Config
    from dfkd_exp.distillation.settings import Distillation
    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.models.kind import Network
    from dfkd_exp.phases.announcement import Announcement
    from dfkd_exp.reconstruction.terms.term import Term


MUCH = 2**32
"""Bytes of snapshots that are not written without a word."""


@dataclass
class Rehearsal:
    """Of a run that was told these ``overrides``, one of the sweep in a folder, if it is. ``release``: once it is there; before that, what
    it will be of follows from the data and the teacher."""

    config: Config
    data: LazyData
    context: RunContext
    overrides: Sequence[str] = ()
    sweep: Path | None = None
    release: Release | None = None

    def __call__(self) -> None:
        """Raise DfkdError, with the flag, for what could not be computed; say how long the rest will take, if that is minutes."""
        if self.release is None:
            inputs, num_classes = wanted_inputs(self.config.teacher, self.data), self.data.outline.num_classes
            teacher = self._owners_side(inputs, num_classes)
        else:
            inputs, num_classes = self.release.inputs, len(self.release.classes)
            check_test_set(self.release, self.data)
            teacher = self.release.teacher()
        if self.config.shadows:
            check_classes(self.data)
        student = None
        if self.config.pipeline != "release":
            self._check_known()
            if self.config.source.needs_data:
                self.config.source.check_data(self.data.outline)
            student = self._receivers_side(teacher, inputs, num_classes)
        if self.context.ranks.first:
            self._announcement(teacher, student, inputs, num_classes)()

    def _announcement(
        self, teacher: nn.Module, student: nn.Module | None, inputs: InputSpec, num_classes: int
    ) -> Announcement:
        from dfkd_exp.phases.announcement import Announcement
        from dfkd_exp.reconstruction.pace import Pace

        context = self.context
        return Announcement(
            config=self.config,
            pace=Pace(inputs, num_classes, context.device, context.engines, context.ranks.world),
            teacher=teacher,
            student=student,
            done=context.artifacts,
            outline=self.data.outline if self.data.settings.available else None,
            published=self.release.metadata().layers if self.release else None,
            overrides=self.overrides,
            sweep=self.sweep,
        )

    def _check_known(self) -> None:
        """What images are to match must be known."""
        known = self.config.metadata.needs_images if self.release is None else self.release.counts is not None
        name = type(self.config.metadata).__name__ if self.release is None else self.release.metadata_kind
        self.config.reconstruction.check_counts([] if known else None, f"metadata of kind {name}")
        self.config.reconstruction.check_drawn((self.release or self.config.metadata).drawable)

    def _owners_side(self, inputs: InputSpec, num_classes: int) -> nn.Module:
        """The teacher, as it will be but for its weights."""
        from dfkd_exp.models.plain import require_gradient
        from dfkd_exp.models.recording import borrowed
        from dfkd_exp.training.rehearsal import rehearse_training

        if self.config.pipeline == "release" and self.config.release:
            check_target(Path(self.config.release))
        # Without the weights of one that is pretrained, which the phase of the teacher, the first, will get.
        teacher = self.config.teacher.untrained(inputs, num_classes, derive_seed(self.config.seed, "teacher"))
        config = self.config = replace(self.config, metadata=self.config.metadata.suited_to(teacher, inputs))
        config.metadata.check_images(self.data.outline.num_images)
        if self.data.settings.measured:
            config.metadata.check_observed_inputs()
        example = inputs.example()
        if config.pipeline == "release" or config.source.reconstructs:
            require_gradient(teacher, example, f"teacher {config.teacher.title}")
        check_whole(config.teacher, teacher, inputs, num_classes)
        with borrowed(teacher):
            layers = config.metadata.recorded(teacher, example)
            config.metadata.check_layers(teacher, layers, inputs)
            config.metadata.check_memory(layers, num_classes)
        if config.pipeline != "release" and config.source.fills_bytes and config.metadata.sized_beforehand:
            num_bytes, each = config.metadata.num_bytes(teacher, inputs, num_classes), self.data.outline.bytes_per_image
            config.source.check_bytes(num_bytes, each, num_classes)
        if not config.teacher.trained:
            rehearse_training(teacher, config.training, inputs, num_classes, f"teacher {config.teacher.title}")
        return teacher

    def _receivers_side(self, teacher: nn.Module, inputs: InputSpec, num_classes: int) -> nn.Module:
        """The student, as it will be but for its weights."""
        from dfkd_exp.distillation.attention import Attention
        from dfkd_exp.reconstruction.rehearsal import rehearse_reconstruction
        from dfkd_exp.reconstruction.terms.term import check_independent
        from dfkd_exp.training.rehearsal import rehearse_training

        config = self.config
        config.reconstruction.check_shape(inputs.shape)
        if config.source.has_student:
            config.engine.check_in_the_loop()
        else:
            check_independent(list(config.terms.values()))
        config.source.check_parametrisation(config.parametrisation)
        config.source.check_memory(config.reconstruction.images_per_class * num_classes, inputs.shape)
        if config.source.reconstructs:
            config.parametrisation.check(teacher, inputs)
        student = config.student.build(inputs, num_classes, derive_seed(config.seed, "student"))
        check_whole(config.student, student, inputs, num_classes)
        if config.distillation.attention:
            Attention.between(student, teacher, inputs.example())
        rehearse_training(student, config.distillation, inputs, num_classes, f"student {config.student.title}")
        warn_of_snapshots(student, config.distillation)
        terms, in_the_loop = self._terms(teacher), config.source.has_student
        rehearse_reconstruction(config.optimizer, terms, teacher, inputs, num_classes, in_the_loop)
        return student

    def _terms(self, teacher: nn.Module) -> list[Term]:
        """Those of the objective, as far as they are suited to the teacher; which are not is said."""
        from dfkd_exp.reconstruction.inside import suited

        published = self.config.metadata.publishes if self.release is None else self.release.metadata_bytes > 0
        terms = list(self.config.terms.values())
        left = suited(terms, teacher, published)
        for term in terms:
            if term not in left:
                console.note(
                    f"{term.flag}: the teacher has no BatchNorm; published statistics are matched in its place"
                )
        return left


def check_whole(settings: Network, network: nn.Module, inputs: InputSpec, num_classes: int) -> None:
    """Raise DfkdError if somebody else's network is not the same again once it is made anew and given its weights; say so if it had them
    already, and they are to be trained."""
    from dfkd_exp.models.ours import Ours
    from dfkd_exp.models.repeatable import draws_its_weights, require_whole

    if isinstance(settings, Ours):
        return
    again = settings.untrained(inputs, num_classes, derive_seed(0, "made anew"))
    if not settings.pretrained and not draws_its_weights(network, again):
        console.warn(
            f"{settings.flag} {settings.title} has the same weights each time it is made. If it loads trained ones, they are trained "
            "further here; to keep them as they are, save them, torch.save(network.state_dict(), 'FILE'), and say "
            f"{settings.flag}.checkpoint=FILE"
        )
    require_whole(network, again, inputs.example(), f"{settings.flag} {settings.title}")


def warn_of_snapshots(student: nn.Module, distillation: Distillation) -> None:
    """Say what a student's snapshots will take if that is much."""
    each = sum(tensor.nbytes for tensor in student.state_dict().values())
    times = min(distillation.snapshots, distillation.epochs)
    if times * each > MUCH:
        console.warn(
            f"distillation.snapshots={distillation.snapshots} keeps {times:,} times the student's {each:,} bytes in the store, "
            f"{times * each / 2**30:,.1f} GiB; fewer take less"
        )


def check_target(target: Path) -> None:
    """Raise DfkdError if no release can be written to ``target``: it is a file, holds something else, or may not be written."""
    if os.path.lexists(target) and not target.is_dir():
        raise DfkdError(f"release={target} is not a folder; name a new one")
    if target.is_dir() and any(target.iterdir()) and not holds_release(target):
        raise DfkdError(f"release={target} holds something else already; name a new folder")
    above = next(path for path in target.absolute().parents if os.path.lexists(path))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise DfkdError(f"release={target} cannot be made: {above} is not a folder that may be written; name another")
