"""Images that are made while the student learns, as settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.distillation.source import COUNT, Resources, Source
from dfkd_exp.errors import DfkdError
from dfkd_exp.seeding import derive_seed
from dfkd_exp.training.transfer_set import TransferSet

if TYPE_CHECKING:
    from dfkd_exp.data.base import Outline
    from dfkd_exp.reconstruction.parametrisation.base import Parametrisation

SCHEDULES = ("constant", "cosine")
SMALLEST_GROUP = 8
"""Images of a group whose size nobody has said: of fewer, moments say little."""
VERSION = 4
"""Of how images are made in the loop, part of the student's key: raise it when a change alters them."""


@dataclass
class Synthesis(Source):
    """Batches of images that are made for a student in the loop: of what the objective's terms ask, the student's disagreement with the
    teacher among them if they do.

    What is made, and of what: the groups terms, metadata, reconstruction, parametrisation and optimizer.
    """

    words: ClassVar[str] = "made while it learns"
    has_student: ClassVar[bool] = True
    reconstructs: ClassVar[bool] = True
    unread: ClassVar[tuple[str, ...]] = tuple(
        f"reconstruction.{name}"
        for name in ("images_per_class", "group_size", "steps", "schedule", "tolerance", "patience")
    )

    images: int | None = 10_000
    """Images that the student is shown in an epoch; empty: as many as of a reconstruction, in whole batches."""
    batch_size: int = 200
    """Images that are made at a time."""
    groups: int | None = None
    """Of which each has its own moments, and one class where the metadata is of classes; empty: as many as there are classes, but of at
    least 8 images, and one where classes are mixed."""
    steps: int = 1
    """Steps of the optimiser for each batch that is made."""
    clip: float | None = None
    """Largest norm of the gradient in each of them (ZSKT 5); empty: any."""
    schedule: str = "constant"
    """Learning rate over all batches that are made: constant (DAFL), or cosine, falling to zero (ZSKT)."""
    student_steps: int = 1
    """Batches that the student is shown for each that is made (DAFL 1, DFAD 5, ZSKT 10)."""
    fresh: bool = False
    """Whether a generator makes each of them anew, of other latents, as DFAD does."""
    pool: int = 0
    """Made images that are kept, the last so many, from which the student's batches are drawn (CMI, Fast); above 64 MiB they lie in files
    until the student is trained. 0: it is shown each where it is made."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "student_steps"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        self.require("images", self.images is None or self.images >= 1, "at least 1, or empty")
        self.require("clip", self.clip is None or self.clip > 0, "positive, or empty")
        self.require_choice("schedule", SCHEDULES)
        self.require("batch_size", self.batch_size >= 2, "at least 2: one image has no deviation")
        fits = self.groups is None or (self.groups >= 1 and self.batch_size % self.groups == 0)
        fits = fits and (self.groups in (None, 1) or self.groups < self.batch_size)  # one image has no variance
        of = f"{self.named('batch_size')}={self.batch_size}"
        self.require("groups", fits, f"empty, or a divisor of {of} that leaves at least two images to each")
        self.require("pool", self.pool == 0 or self.pool >= self.batch_size, "0, or at least batch_size")
        self.require("fresh", not (self.fresh and self.pool), "false where made images are kept (source.pool)")

    def reads(self, balance: str) -> tuple[str, ...]:
        # Where classes have shares, they have their turns over so many images.
        return COUNT if balance == "shares" or self.images is None else ()

    def num_images(self, made: int, outline: Outline | None) -> int:
        return self.images or -(-made // self.batch_size) * self.batch_size

    def image_steps(self, made: int, student_steps: int) -> int:
        return -(-student_steps // self.student_steps) * self.batch_size * self.steps

    def check_parametrisation(self, parametrisation: Parametrisation) -> None:
        if self.fresh and not parametrisation.shares:
            raise DfkdError(
                f"{self.named('fresh')}=true shows what a generator makes of other latents, and there is none; choose "
                "parametrisation=generator, or leave it out"
            )

    def num_groups(self, num_classes: int) -> int:
        """The groups of a batch, for metadata of so many single classes, or 1 if it mixes them."""
        if self.groups is not None:
            return self.groups
        most = max(1, min(num_classes, self.batch_size // SMALLEST_GROUP))
        return next(count for count in range(most, 0, -1) if self.batch_size % count == 0)

    def transfer_set(self, resources: Resources) -> TransferSet:
        from dfkd_exp.distillation.synthesised import Synthesised

        seed = derive_seed(resources.seed, "synthesis")
        release = resources.release
        settings = replace(self, images=self.num_images(resources.num_shown, None))
        identity = {**settings.identity(), **release.identity, **resources.asked, "seed": seed, "version": VERSION}
        return Synthesised(
            settings, resources.objective, resources.optimizer, identity, release.metadata_bytes, seed, resources.epochs
        )
