"""What every data set's settings have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import LARGEST, InputSpec, Shape, described
from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    from dfkd_exp.data.images import ImageData


MOST_SIDE = math.isqrt(LARGEST)
"""Pixels along the side of the largest square image that a release may be of."""


@dataclass(frozen=True)
class Outline:
    """What is known of a data set before its images are read: the ``shape`` of each, the number of its classes and of its
    training images, and the bytes of one image as its owner keeps it."""

    shape: Shape
    num_classes: int
    num_images: int
    bytes_per_image: int


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

    def __post_init__(self) -> None:
        self.require("pad", 0 <= self.pad <= MOST_SIDE // 2, f"from 0 to {MOST_SIDE // 2:,}")
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
        """Read the images; DfkdError with the way out if they cannot be had."""
        raise NotImplementedError

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


@dataclass
class NoData(Data):
    """No data set: what stands right of the wall has none."""

    available: ClassVar[bool] = False

    def load(self) -> ImageData:
        raise DfkdError(
            "this needs a data set, and data=none; choose one, for example data=mnist (dfkd --help lists them)"
        )
