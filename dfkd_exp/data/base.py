"""What every data set's settings have in common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp import console
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import LARGEST, InputSpec, Shape, described
from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    from dfkd_exp.data.images import ImageData


MOST_SIDE = math.isqrt(LARGEST)
"""Pixels along the side of the largest square image that a release may be of."""


@dataclass(frozen=True)
class Outline:
    """What is known of a data set before its images are read: the ``shape`` of each, the names of its classes, the number of its
    training images, and the bytes of one image as its owner keeps it."""

    shape: Shape
    classes: Sequence[str]
    num_images: int
    bytes_per_image: int

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass
class Data(Settings):
    """A data set. Only the phases left of the wall, the baselines and the evaluation ever load it."""

    flag: ClassVar[str] = "data"
    available: ClassVar[bool] = True

    pad: int = 0
    """Zero pixels added on each side (2 turns MNIST's 28x28 into LeNet-5's 32x32)."""
    mean: list[float] = field(default_factory=list)
    """Per-channel mean of the normalisation (pixel - mean) / std; empty: pixels stay in [0, 1]."""
    std: list[float] = field(default_factory=list)
    """Per-channel standard deviation of the normalisation; empty: 1."""
    limit: int | None = None
    """For a quick try: so many training images, the first of each class in turn, and at most as many test images; empty: all."""

    def __post_init__(self) -> None:
        self.require("pad", 0 <= self.pad <= MOST_SIDE // 2, f"from 0 to {MOST_SIDE // 2:,}")
        self.require("limit", self.limit is None or self.limit >= 2, "at least 2, or empty")
        self.require("std", all(s > 0 for s in self.std), "positive")

    @property
    def kept_in_store(self) -> bool:
        """Whether the images, once read, are kept in the store as files that are mapped; `load` then takes a folder to write them to."""
        return False

    @property
    def measured(self) -> bool:
        """Whether the range of its values was looked up in them: those of other examples may have another."""
        return False

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the images: equal fingerprints mean equal pixels. Cheap: it opens no image."""
        return self.identity()

    def outline(self) -> Outline | None:
        """What is known without reading all images; None: nothing."""
        return None

    def load(self) -> ImageData:
        """The images, as many as the ``limit`` wants."""
        data = self.read()
        if self.limit is None:
            return data
        import torch

        parts = {"train": data.train, "test": data.test}
        index = self.limited({name: part.labels.tolist() for name, part in parts.items()}, len(data.classes))
        train, test = (part.select(torch.tensor(index[name])) for name, part in parts.items())
        return replace(data, train=train, test=test)

    @property
    def remark(self) -> str:
        """What a release's card says of the images beside their number; mostly nothing."""
        return "" if self.limit is None else f"a quick try on a part of the data, data.limit={self.limit}"

    def read(self) -> ImageData:
        """Read the images, all of them: `load` is what takes some; DfkdError with the way out if they cannot be had."""
        raise NotImplementedError

    def limited(self, labels: dict[str, Sequence[int]], num_classes: int) -> dict[str, list[int]]:
        """By part, the indices of the images that are used of those with these ``labels``, where there is a limit; a line says how many.
        The test part is limited too, so that a quick try is quick to the end: 1,000 images tell an accuracy to some 1.5 points."""
        assert self.limit is not None
        enough = self.limit >= num_classes
        self.require("limit", enough, f"at least one image for each of the {num_classes:,} classes, or empty")
        index = {part: first_in_turn(values, self.limit) for part, values in labels.items()}
        said = " and ".join(f"{len(index[part]):,} of {len(values):,} {part} images" for part, values in labels.items())
        console.note(f"{self.named('limit')}={self.limit}: {said}; figures are of these alone")
        return index

    def inputs(self, shape: Shape) -> InputSpec:
        """How inputs of ``shape`` enter the networks."""
        self.require_possible(shape)
        return InputSpec.normalised(shape, self.mean, self.std)

    def require_possible(self, shape: Shape) -> None:
        """Raise DfkdError unless a release may be of inputs of ``shape``, and the normalisation is of as many channels."""
        for name in ("mean", "std"):
            values = getattr(self, name)
            self.require(name, len(values) in (0, shape[0]), f"empty or {shape[0]} numbers, one per channel")
        if math.prod(shape) > LARGEST:
            raise DfkdError(
                f"{described(shape)} are larger than the {LARGEST:,} numbers that are possible; make them smaller (data.size)"
            )


def first_in_turn(labels: Sequence[int], count: int) -> list[int]:
    """Indices, ascending, of ``count`` images or all: the first of each class, then the second of each, and so on."""
    seen: Counter[int] = Counter()
    turns = []
    for label in labels:
        turns.append(seen[label])
        seen[label] += 1
    return sorted(sorted(range(len(labels)), key=turns.__getitem__)[:count])


@dataclass
class NoData(Data):
    """No data set: what stands right of the wall has none."""

    available: ClassVar[bool] = False

    def read(self) -> ImageData:
        raise DfkdError(
            "this needs a data set, and data=none; choose one, for example data=mnist (dfkd --help lists them)"
        )
