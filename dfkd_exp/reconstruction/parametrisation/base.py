"""The contract of a parametrisation: settings that build a space of images for a teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp import console
from dfkd_exp.errors import DfkdError
from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.metadata import ResolvedMetadata

STARTS = ("noise", "metadata")
OUT_OF_RANGE = 0.1
"""Weight of an image's squared excess over the range of pixels, summed over its pixels."""


class ImageSpace(ABC):
    """Values that are optimised in the place of images, and the images that they stand for."""

    @abstractmethod
    def start(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The values that images of classes ``labels[N]`` start from, ``[N, …]``, on the CPU."""

    @abstractmethod
    def pixels(self, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """The pixels ``[M, *shape]`` that ``values[M, …]`` stand for, and what is added to each image's loss, ``[M]``, if anything."""

    renews: ClassVar[bool] = False
    """Whether what images have in common begins anew with each batch."""
    optimises_values: ClassVar[bool] = True
    """Whether the values are optimised, or left as they were drawn."""
    values_lr: float | None = None
    """The learning rate of the values, where it is another than that of what images have in common."""

    def shared(self) -> list[Tensor]:
        """What all images have in common and is optimised too, such as the weights of a generator; on the device."""
        return []

    def starts(self) -> list[Tensor]:
        """What `shared` begins each batch from, if that is learned from batch to batch; as many, on the device."""
        return []

    def buffers(self) -> dict[str, Tensor]:
        """What all images have in common and follows from those that were made, such as running means."""
        return {}

    def begin(self, seed: int) -> None:
        """Called before the first batch is made."""
        return

    def begin_batch(self, seed: int) -> list[Tensor]:
        """Called before a batch is made: what of `shared` was drawn anew, and has left behind what an optimiser knew of it."""
        return []

    def after_step(self, values: Tensor, step: int) -> None:
        """Change the values in place after an optimiser's step, counted from 0."""
        return


def within_range(free: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels ``[M, *shape]``, cut off at 0 and 1, and what is added to each image's loss for what was, ``[M]``."""
    pixels = free.clamp(0, 1)
    return pixels, OUT_OF_RANGE * (free - pixels).flatten(1).square().sum(1)


@dataclass
class Parametrisation(Settings):
    """What images are made of."""

    flag: ClassVar[str] = "parametrisation"
    shares: ClassVar[bool] = False
    """Whether images have something in common that is optimised, so that they cannot be made in groups that depend on nothing else."""

    def check(self, teacher: nn.Module, inputs: InputSpec) -> None:
        """Raise DfkdError if there is no such space for a teacher whose weights may still become others."""

    def build(self, teacher: nn.Module, metadata: ResolvedMetadata) -> ImageSpace:
        """The space for a frozen teacher; on the device where it lies."""
        raise NotImplementedError


@dataclass
class FromMean(Parametrisation):
    """Images that deviate from a mean."""

    start: str = "noise"
    """What images start from: noise: Gaussian, the paper's; metadata: the class's mean image, as far as the first layer's statistics
    give it, and noise."""
    init_mean: float | None = None
    """Mean of the pixels that images start from (paper: 0.15 for MNIST, 0.44 for CelebA); empty: what the teacher takes for zero, where
    its inputs are normalised; else 0.15 for grey images and 0.5, the middle of their range, for all other inputs."""

    def __post_init__(self) -> None:
        self.require_choice("start", STARTS)

    def means(self, inputs: InputSpec) -> tuple[float, ...]:
        """Of the pixels of each channel, or of all."""
        return tuple(inputs.usual_pixels()[0]) if self.init_mean is None else (self.init_mean,)

    def means_of_classes(self, teacher: nn.Module, metadata: ResolvedMetadata) -> Tensor | None:
        """The mean pixels of each class, ``[K, *shape]`` on the CPU, where images are to start from them and the metadata gives them."""
        from dfkd_exp.reconstruction.start import class_means

        if self.start == "noise":
            return None
        try:
            return class_means(teacher, metadata, self.means(metadata.inputs)).cpu()
        except DfkdError as error:
            console.note(f"images start from noise, not from the metadata: {error}")
            return None
