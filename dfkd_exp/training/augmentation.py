"""How images are changed for a network in training. Yours is a class like these, chosen by its import path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.errors import ConfigError
from dfkd_exp.inputs import Shape, are_large, are_photographs, described
from dfkd_exp.settings import Settings, under_flag

MIXTURES = ("mixup", "cutmix", "either")

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Augmentation(Settings):
    """A random change of an image, another each time it is shown; a pure function of the image and of random numbers, and, where it
    `mixes`, of the image before it in the batch."""

    flag: ClassVar[str] = "training.augmentation"
    num_random: ClassVar[int] = 0
    """Random numbers that each image is given."""
    changes: ClassVar[bool] = True
    """Whether a network is shown anything but the images as they are."""
    mixes: ClassVar[bool] = False
    """Whether images are mixed with others of their batch, so that no label of theirs is right any more."""

    def __post_init__(self) -> None:
        """Raises ConfigError for settings that cannot be."""

    def __call__(self, images: Tensor, uniform: Tensor, outside: Tensor) -> Tensor:
        """What is shown of ``images[N, *shape]``, of the same shape: image n as the numbers ``uniform[n, num_random]``, in [0, 1), say.

        ``outside[C, 1, …]``: the value of pixel 0, for what lies outside an image. All are on one device.
        """
        raise NotImplementedError

    def suited_to(self, shape: Shape, answered: bool = True) -> Augmentation:
        """What is done to inputs of ``shape``, of which a teacher says what it sees in them, ``answered``, or which have labels. Raises
        ConfigError if nothing of this kind can be."""
        return self


@dataclass
class NoAugmentation(Augmentation):
    """Images as they are."""

    changes: ClassVar[bool] = False

    def __call__(self, images: Tensor, uniform: Tensor, outside: Tensor) -> Tensor:
        return images


@dataclass
class OfImages(Augmentation):
    """A change that only images can be given."""

    def suited_to(self, shape: Shape, answered: bool = True) -> Augmentation:
        if len(shape) != 3:
            group = self.flag.replace(".", "/")
            raise ConfigError(
                f"{group}: {type(self).__name__} is for images, and the data's are {described(shape)}; set {group}=none"
            )
        return self


@dataclass
class Affine(OfImages):
    """Small rotations, changes of size and shifts, uniformly distributed, bilinear, with pixel 0 outside."""

    num_random: ClassVar[int] = 4

    degrees: float = 10.0
    """Largest rotation."""
    shift: float = 0.08
    """Largest shift, as a share of the image's size."""
    scale: float = 0.1
    """Largest change of size, as a share."""

    def __post_init__(self) -> None:
        for name in ("degrees", "shift"):
            self.require(name, getattr(self, name) >= 0, "at least 0")
        self.require("scale", 0 <= self.scale < 1, "at least 0 and below 1")

    def __call__(self, images: Tensor, uniform: Tensor, outside: Tensor) -> Tensor:
        from dfkd_exp.training.transforms import affine

        return affine(images, uniform, outside, self.degrees, self.shift, self.scale)


@dataclass
class FlipAndCrop(OfImages):
    """A crop of the padded image, of the image's size, mirrored with probability 1/2: the field's augmentation for CIFAR."""

    num_random: ClassVar[int] = 3

    padding: int = 4
    """Pixels that are added on each side before an image is cropped."""
    reflect: bool = False
    """Whether the padding is the image's reflection; else it is pixel 0."""
    flip: bool = True
    """Whether half of the images are mirrored, left to right."""

    def __post_init__(self) -> None:
        self.require("padding", self.padding >= 0, "at least 0")

    def __call__(self, images: Tensor, uniform: Tensor, outside: Tensor) -> Tensor:
        from dfkd_exp.training.transforms import flip_and_crop

        side = min(images.shape[-2:])
        self.require(
            "padding", not self.reflect or self.padding < side, f"below {side}, the images' side, to be reflected"
        )
        return flip_and_crop(images, uniform, outside, self.padding, self.reflect, self.flip)


@dataclass
class ResizedCrop(OfImages):
    """A part of the image, of random size and proportions, enlarged to the image's size, and mirrored with probability 1/2: the field's
    augmentation for ImageNet. Source: Szegedy et al. (2015), "Going deeper with convolutions"."""

    num_random: ClassVar[int] = 5

    area: float = 0.3
    """Smallest share of the image's area that is shown (for ImageNet 0.08)."""
    proportions: float = 4 / 3
    """Largest ratio of the part's height to its width, beside the image's, and of its width to its height."""
    flip: bool = True
    """Whether half of the images are mirrored, left to right."""

    def __post_init__(self) -> None:
        self.require("area", 0 < self.area <= 1, "above 0 and at most 1")
        self.require("proportions", self.proportions >= 1, "at least 1")

    def __call__(self, images: Tensor, uniform: Tensor, outside: Tensor) -> Tensor:
        from dfkd_exp.training.transforms import resized_crop

        return resized_crop(images, uniform, self.area, self.proportions, self.flip)


@dataclass
class Mixtures(OfImages):
    """What the class beside it does to images, and then some of them mixed with the one before them in the batch, for students that a
    teacher answers. Source: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), both with alpha = 1; for distillation Beyer et al.
    (2022)."""

    num_random: ClassVar[int] = 5
    mixes: ClassVar[bool] = True

    mixture: str = "either"
    """mixup: a weighted mean of the two; cutmix: a rectangle of the other in the image; either: the one or the other."""
    share: float = 0.5
    """Of the images that are mixed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("mixture", MIXTURES)
        self.require("share", 0 < self.share <= 1, "above 0 and at most 1")

    def __call__(self, images: Tensor, uniform: Tensor, outside: Tensor) -> Tensor:
        from dfkd_exp.training.transforms import mixed

        one_by_one, numbers = uniform.tensor_split([uniform.shape[1] - Mixtures.num_random], dim=1)
        cut_share = {"mixup": 0.0, "cutmix": 1.0, "either": 0.5}[self.mixture]
        return mixed(super().__call__(images, one_by_one, outside), numbers, self.share, cut_share)


@dataclass
class Mixed(Mixtures, FlipAndCrop):
    """As `FlipAndCrop`, and then some images mixed with the one before them in the batch (mixup, CutMix), for students that a teacher
    answers."""

    num_random: ClassVar[int] = FlipAndCrop.num_random + Mixtures.num_random


@dataclass
class MixedParts(Mixtures, ResizedCrop):
    """As `ResizedCrop`, and then some images mixed as `Mixed` does, for students that a teacher answers: what teaches most with few images.
    Source: Asano and Saeed (2023), "Extrapolating from a single image to a thousand classes using distillation", where it is one image."""

    num_random: ClassVar[int] = ResizedCrop.num_random + Mixtures.num_random


@dataclass
class Auto(Augmentation):
    """By the inputs: photographs, which are images of three channels and 24 pixels or more a side, as `MixedParts` changes them, or, where
    labels are learnt, as `FlipAndCrop`; other images as `Affine`; everything else as it is."""

    def suited_to(self, shape: Shape, answered: bool = True) -> Augmentation:
        with under_flag(self.flag):
            if len(shape) != 3:
                return NoAugmentation()
            return (MixedParts() if answered else FlipAndCrop()) if are_photographs(shape) else Affine()


@dataclass
class AutoMixed(Auto):
    """As `Auto`, for students that are taught for long: images of 24 pixels or more a side are mixed whatever their channels. Of those that
    are no photographs crops are, shifted by up to a tenth of their side, and not mirrored, since letters and digits then are others."""

    def suited_to(self, shape: Shape, answered: bool = True) -> Augmentation:
        if answered and are_large(shape) and not are_photographs(shape):
            with under_flag(self.flag):
                return Mixed(padding=min(shape[1:]) // 10, flip=False)
        return super().suited_to(shape, answered)
