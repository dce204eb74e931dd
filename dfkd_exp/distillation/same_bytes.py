"""Real images in the place of metadata, as many as its bytes hold: the baseline that says what metadata is worth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.distillation.source import COUNT, MAKING, Resources, Source, as_rows
from dfkd_exp.errors import DfkdError
from dfkd_exp.seeding import derive_seed
from dfkd_exp.training.transfer_set import FixedImages, TransferSet

if TYPE_CHECKING:
    from torch import Tensor

    from dfkd_exp.data.images import LabelledImages

CODECS = ("raw", "jpeg", "webp")


@dataclass
class SameBytes(Source):
    """As many whole training images, classes balanced, as fit into the metadata's bytes. An epoch shows as many as would be reconstructed,
    each of them more than once or some of them: the student learns for as long as that of reconstructions."""

    needs_data: ClassVar[bool] = True
    fills_bytes: ClassVar[bool] = True
    words: ClassVar[str] = "real, in the metadata's bytes"
    unread: ClassVar[tuple[str, ...]] = MAKING

    codec: str = "raw"
    """How they are kept: raw, as their owner keeps their pixels; jpeg or webp, whose losses the student sees."""
    quality: int = 50
    """Of jpeg and webp, from 1 to 100: the lower, the more images."""

    def __post_init__(self) -> None:
        self.require_choice("codec", CODECS)
        self.require("quality", 1 <= self.quality <= 100, "from 1 to 100")

    def reads(self, balance: str) -> tuple[str, ...]:
        return COUNT

    def identity(self) -> dict[str, Any]:
        found = super().identity()
        return found if self.codec != "raw" else {n: v for n, v in found.items() if n not in ("codec", "quality")}

    def check_bytes(self, num_bytes: int, bytes_per_image: int, num_classes: int) -> None:
        if self.codec == "raw":  # what others take is known once there are images
            require_one_each(num_bytes // bytes_per_image, num_classes, num_bytes, bytes_per_image)

    def transfer_set(self, resources: Resources) -> TransferSet:
        data, num_classes = resources.data, len(resources.release.classes)
        num_bytes, seed = resources.release.metadata_bytes, derive_seed(resources.seed, "same bytes")

        @cache
        def fitting() -> tuple[Tensor, LabelledImages]:
            train, each = data.images.train, data.images.bytes_per_image
            if self.codec == "raw":
                return images_in_bytes(train, num_classes, num_bytes, each, seed)
            return compressed_in_bytes(train, num_classes, num_bytes, self.codec, self.quality, seed)

        return FixedImages(
            lambda: as_rows(fitting()[1]),
            title=f"as many real images as fit into {num_bytes:,} bytes{'' if self.codec == 'raw' else f' as {self.codec}'}",
            identity={
                **self.identity(),
                "data": data.fingerprint,
                "num_bytes": num_bytes,
                "seed": seed,
                "per_epoch": resources.num_shown,
            },
            num_bytes=min(num_bytes, data.outline.num_images * data.outline.bytes_per_image),
            members=lambda: fitting()[0],
            per_epoch=resources.num_shown,
        )


def require_one_each(count: int, num_classes: int, num_bytes: int, bytes_per_image: int) -> None:
    """Raise DfkdError if ``count`` images are fewer than one per class."""
    if count < num_classes:
        raise DfkdError(
            f"the metadata's {num_bytes:,} bytes hold only {count} images of {bytes_per_image:,} bytes, fewer than one per class; "
            "source=same_bytes needs larger metadata"
        )


def images_in_bytes(
    train: LabelledImages, num_classes: int, num_bytes: int, bytes_per_image: int, seed: int
) -> tuple[Tensor, LabelledImages]:
    """As many training images as fit into ``num_bytes``, classes balanced: their row numbers, and they. Raises DfkdError if not one per
    class fits."""
    import torch

    from dfkd_exp.data.images import class_balanced

    count = min(num_bytes // bytes_per_image, len(train))
    require_one_each(count, num_classes, num_bytes, bytes_per_image)
    chosen = class_balanced(train.labels, count, num_classes, torch.Generator().manual_seed(seed))
    return chosen, train.select(chosen)


def compressed_in_bytes(
    train: LabelledImages, num_classes: int, num_bytes: int, codec: str, quality: int, seed: int
) -> tuple[Tensor, LabelledImages]:
    """The same, as they are after a ``codec`` of some ``quality``. Raises DfkdError if not one per class fits, or the codec is not for such
    images."""
    import torch

    from dfkd_exp.data.compression import Codec
    from dfkd_exp.data.images import LabelledImages, class_balanced

    compression = Codec.of(codec, quality, train.images)
    left, images = num_bytes - compression.shared_bytes, []
    order = class_balanced(train.labels, len(train), num_classes, torch.Generator().manual_seed(seed))
    for index in order.tolist():
        taken, image = compression.compressed(train.images[index])
        left -= taken
        if left < 0:
            break
        images.append(image)
    require_one_each(len(images), num_classes, num_bytes, (num_bytes - max(left, 0)) // max(len(images), 1))
    chosen = order[: len(images)]
    return chosen, LabelledImages(torch.stack(images), train.labels[chosen])
