"""Where the transfer set comes from: reconstructions, or one of the baselines that they are compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dfkd_exp.errors import DfkdError
from dfkd_exp.seeding import derive_seed
from dfkd_exp.settings import Settings
from dfkd_exp.training.transfer_set import FixedImages, TransferSet

if TYPE_CHECKING:
    from torch import Tensor

    from dfkd_exp.data.base import Outline
    from dfkd_exp.data.images import ImageData, LabelledImages
    from dfkd_exp.data.rows import Rows
    from dfkd_exp.inputs import Shape
    from dfkd_exp.reconstruction.objective import Objective
    from dfkd_exp.reconstruction.optimizers import Optimizer
    from dfkd_exp.reconstruction.parametrisation.base import Parametrisation
    from dfkd_exp.release.folder import Release
    from dfkd_exp.store import Artifact


MAKING = ("reconstruction", "parametrisation", "terms", "optimizer", "engine")
"""Groups of the config that say how images are made by the teacher's gradient."""
COUNT = ("reconstruction.images_per_class", "reconstruction.group_size")
"""Those of their fields that say how many a reconstruction makes; the second divides the first."""


class OwnersData(Protocol):
    """The data set that the teacher was trained on. Whoever asks for its ``images`` has it opened."""

    @property
    def fingerprint(self) -> dict[str, Any]: ...

    @property
    def outline(self) -> Outline: ...

    @property
    def images(self) -> ImageData: ...


@dataclass(frozen=True)
class Resources:
    """What there is to make a transfer set from; each is made or opened when it is called for.

    ``reconstruct()``: the reconstruction phase's artifact. ``num_images``: as many as the
    reconstruction would make. ``seed``: the run's. ``objective()``: what images are to fulfil, on the run's device, by the ``optimizer``;
    ``asked`` identifies both. ``epochs``: of the student's training; ``holdout``: the share of made images that it is not trained on.
    """

    release: Release
    data: OwnersData
    reconstruct: Callable[[], Artifact]
    num_images: int
    seed: int
    objective: Callable[[], Objective]
    optimizer: Optimizer
    asked: dict[str, Any]
    epochs: int = 1
    holdout: float = 0.0

    @property
    def num_shown(self) -> int:
        """Images that an epoch shows of as many reconstructions."""
        return self.num_images - round(self.num_images * self.holdout)


@dataclass
class Source(Settings):
    """Where the transfer set comes from."""

    flag: ClassVar[str] = "source"
    needs_data: ClassVar[bool] = False
    has_student: ClassVar[bool] = False
    """Whether images are made while the student learns, so that terms can look at it."""
    labelled: ClassVar[bool] = True
    """Whether its images may have labels of their own, beside what the teacher says."""
    reconstructs: ClassVar[bool] = False
    """Whether its images are made by the teacher's gradient."""
    fills_bytes: ClassVar[bool] = False
    """Whether its images are as many as fit into the metadata's bytes."""
    words: ClassVar[str] = ""
    """What such images are, in a few words; empty: the class's name."""
    unread: ClassVar[tuple[str, ...]] = ()
    """Groups of the config, and fields of them, that do not decide what the student is shown, but for what it `reads` of them."""

    def reads(self, balance: str) -> tuple[str, ...]:
        """Of what is ``unread`` that which does, where the reconstruction has its classes in that ``balance``."""
        return ()

    def shown(self) -> str:
        """What the student saw, in a few words for tables."""
        return self.words or type(self).__name__

    def check_data(self, outline: Outline) -> None:
        """Raise DfkdError if the owner's data has fewer images than are asked for."""

    def check_bytes(self, num_bytes: int, bytes_per_image: int, num_classes: int) -> None:
        """Raise DfkdError if so many bytes of metadata, where the owner's images take ``bytes_per_image`` each, are too few."""

    def check_memory(self, made: int, shape: Shape) -> None:
        """Raise DfkdError if its images do not fit into the machine's memory, where a reconstruction makes ``made`` of that ``shape``."""

    def num_images(self, made: int, outline: Outline | None) -> int:
        """How many the student will be shown in an epoch, as far as that is known beforehand, where a reconstruction makes ``made`` and the
        owner's data is as its ``outline`` says."""
        return made

    def image_steps(self, made: int, student_steps: int) -> int:
        """Through the teacher for so many steps of the student, where a reconstruction has ``made``."""
        return made if self.reconstructs else 0

    def check_parametrisation(self, parametrisation: Parametrisation) -> None:
        """Raise DfkdError if images cannot be made so for this source."""
        if parametrisation.shares and not self.has_student:
            raise DfkdError(
                f"{parametrisation.flag}: a generator is trained beside the student, and with this source images are made before there is "
                "one; choose source=synthesis"
            )

    def transfer_set(self, resources: Resources) -> TransferSet:
        """What the student is taught on. Its title, identity and bytes are known without loading an image."""
        raise NotImplementedError


@dataclass
class FromReconstruction(Source):
    """Images reconstructed from the release: the data-free case."""

    reconstructs: ClassVar[bool] = True
    words: ClassVar[str] = "reconstructions"

    def transfer_set(self, resources: Resources) -> TransferSet:
        artifact = resources.reconstruct()

        def load() -> tuple[Rows, Tensor]:
            from dfkd_exp.reconstruction.shards import open_shards

            return open_shards(artifact.path)

        return FixedImages(
            load,
            title=f"{artifact.info['images']:,} reconstructions",
            identity={"images": artifact.digest},
            num_bytes=resources.release.metadata_bytes,
            image_steps=round(artifact.info["images"] * artifact.info.get("evaluations", artifact.info["steps"])),
        )


@dataclass
class FromData(Source):
    """The teacher's training images: what data-free distillation is measured against."""

    needs_data: ClassVar[bool] = True
    words: ClassVar[str] = "the training set"
    unread: ClassVar[tuple[str, ...]] = MAKING

    images: int | None = None
    """So many of them, at random, the classes taken in turn, of which an epoch shows as many as would be reconstructed; empty: all of them,
    each once an epoch."""
    as_reconstructed: bool = False
    """Whether an epoch shows as many of all of them as would be reconstructed, some or each more than once."""

    def __post_init__(self) -> None:
        self.require("images", self.images is None or self.images >= 1, "at least 1, or empty")

    def reads(self, balance: str) -> tuple[str, ...]:
        return COUNT if self.images is not None or self.as_reconstructed else ()

    def shown(self) -> str:
        return super().shown() if self.images is None else "some of the training set"

    def identity(self) -> dict[str, Any]:
        unsaid = {"images": None, "as_reconstructed": False}
        return {n: value for n, value in super().identity().items() if n not in unsaid or value != unsaid[n]}

    def num_images(self, made: int, outline: Outline | None) -> int:
        return outline.num_images if outline and self.images is None and not self.as_reconstructed else made

    def check_data(self, outline: Outline) -> None:
        fits = self.images is None or outline.num_classes <= self.images <= outline.num_images
        self.require(
            "images", fits, f"from {outline.num_classes:,}, one of each class, to {outline.num_images:,}, or empty"
        )

    def transfer_set(self, resources: Resources) -> TransferSet:
        data, count, seed = resources.data, self.images, derive_seed(resources.seed, "some of the data")
        identity = {**self.identity(), "data": data.fingerprint}
        if count is None:
            per_epoch = resources.num_shown if self.as_reconstructed else None
            return FixedImages(
                lambda: as_rows(data.images.train),
                title="the training images",
                identity={**identity, **({"per_epoch": per_epoch} if per_epoch else {})},
                num_bytes=data.outline.num_images * data.outline.bytes_per_image,
                members=lambda: _all(data.images.train),
                per_epoch=per_epoch,
            )

        @cache
        def members() -> Tensor:
            import torch

            from dfkd_exp.data.images import class_balanced

            generator = torch.Generator().manual_seed(seed)
            return class_balanced(data.images.train.labels, count, data.outline.num_classes, generator)

        return FixedImages(
            lambda: as_rows(data.images.train.select(members())),
            title=f"{count:,} of the training images",
            identity={**identity, "seed": seed, "per_epoch": resources.num_shown},
            num_bytes=count * data.outline.bytes_per_image,
            members=members,
            per_epoch=resources.num_shown,
        )


@dataclass
class FromNoise(Source):
    """Gaussian noise, clamped to the range of pixels, labelled by the teacher."""

    labelled: ClassVar[bool] = False
    words: ClassVar[str] = "noise"
    unread: ClassVar[tuple[str, ...]] = MAKING

    images: int | None = None
    """How many; empty: as many as the reconstruction would make."""
    mean: float = 0.5
    """Mean of the pixels before they are clamped to [0, 1]."""
    std: float = 0.5
    """Standard deviation of the pixels before they are clamped to [0, 1]."""

    def __post_init__(self) -> None:
        self.require("images", self.images is None or self.images >= 1, "at least 1, or empty")
        self.require("std", self.std > 0, "positive")

    def reads(self, balance: str) -> tuple[str, ...]:
        return COUNT if self.images is None else ()

    def check_memory(self, made: int, shape: Shape) -> None:
        from dfkd_exp.metadata.memory import check_room

        count = self.images or made
        check_room(
            4 * count * math.prod(shape), f"{count:,} images of noise", "fewer source.images take less", self.flag
        )

    def num_images(self, made: int, outline: Outline | None) -> int:
        return self.images or made

    def transfer_set(self, resources: Resources) -> TransferSet:
        count, seed = self.images or resources.num_images, derive_seed(resources.seed, "noise")
        shape = resources.release.inputs.shape

        def load() -> tuple[Rows, None]:
            from dfkd_exp.data.rows import Rows

            return Rows([noise_pixels(self, shape, count, seed)]), None

        return FixedImages(
            load,
            title=f"{count:,} images of noise",
            identity={**self.identity(), "images": count, "seed": seed},
        )


def _all(images: LabelledImages) -> Tensor:
    import torch

    return torch.arange(len(images))


def as_rows(images: LabelledImages) -> tuple[Rows, Tensor]:
    """Images and labels as a transfer set takes them."""
    from dfkd_exp.data.rows import Rows

    return Rows([images.images]), images.labels


def noise_pixels(settings: FromNoise, shape: Shape, count: int, seed: int) -> Tensor:
    """``count`` images of Gaussian pixels clamped to [0, 1], ``[N, *shape]``."""
    import torch

    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    return noise.mul_(settings.std).add_(settings.mean).clamp_(0, 1)
