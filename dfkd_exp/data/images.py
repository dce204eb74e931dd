"""Images and labels as tensors, read once, and kept as uint8 or, where they are not of bytes, as floating numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd_exp.data.base import Outline
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import Shape
from dfkd_exp.ranks import ALONE, Ranks


@dataclass(frozen=True)
class LabelledImages:
    """``images[N, *shape]``, uint8 or floating in [0, 1], and ``labels[N]`` int64. The images may be views of a file and larger
    than memory: whoever uses them takes some at a time."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, index: Tensor) -> LabelledImages:
        """Those of ``index``: numbers, or a mask."""
        index = index.nonzero().squeeze(1) if index.dtype == torch.bool else index
        return LabelledImages(self.images.index_select(0, index), self.labels.index_select(0, index))

    def by_class(self, batch_size: int, ranks: Ranks = ALONE) -> Iterator[LabelledImages]:
        """Batches, ordered by class (stable): most of them hold one class, which statistics per class like. Of several processes'
        ``ranks``, this one's share of them."""
        for index in ranks.share(torch.argsort(self.labels, stable=True).split(batch_size)):
            yield self.select(index)

    def padded(self, pixels: int) -> LabelledImages:
        """With so many pixels more on each side of an image."""
        return LabelledImages(F.pad(self.images, [pixels] * 4), self.labels) if pixels else self


@dataclass(frozen=True)
class ImageData:
    """A data set: ``train``, ``test``, the names of the classes, the bytes of one image as its owner keeps it, and, of a table, the names
    of its ``features`` if they are known."""

    train: LabelledImages
    test: LabelledImages
    classes: list[str]
    bytes_per_image: int
    features: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise DfkdError(
                f"training examples are of shape {list(self.train.images.shape[1:])} but test examples of "
                f"{list(self.test.images.shape[1:])}; give both one size"
            )

    @property
    def shape(self) -> Shape:
        return tuple(self.train.images.shape[1:])

    def numbered(self, numbers: Sequence[int], classes: Sequence[str]) -> ImageData:
        """The same with the ``classes`` of a release, among which those of the data have these ``numbers``."""
        table = torch.tensor(numbers)
        train, test = (LabelledImages(part.images, table[part.labels]) for part in (self.train, self.test))
        return replace(self, train=train, test=test, classes=list(classes))

    @property
    def outline(self) -> Outline:
        return Outline(self.shape, self.classes, len(self.train), self.bytes_per_image)


def class_balanced(labels: Tensor, count: int, num_classes: int, generator: torch.Generator) -> Tensor:
    """Indices of ``count`` random examples, the classes taken in turn so that their counts differ by at most one
    (unless a class runs out)."""
    order = torch.randperm(len(labels), generator=generator)
    shuffled = labels[order]
    turn = torch.empty(len(labels), dtype=torch.long)
    for label in range(num_classes):
        where = shuffled == label
        turn[where] = torch.arange(int(where.sum()))
    return order[torch.argsort(turn, stable=True)[:count]]
