"""Images as pixels, each by itself: the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp import console
from dfkd_exp.inputs import are_photographs
from dfkd_exp.reconstruction.parametrisation.base import FromMean, ImageSpace

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.metadata import ResolvedMetadata


@dataclass
class Pixels(FromMean):
    """Each pixel by itself, the paper's."""

    init_std: float | None = None
    """Standard deviation of the Gaussian noise that images start from (paper: 0.1 for MNIST, 0.29 for CelebA); empty: what the teacher
    takes for 1, where its inputs are normalised; else 0.1."""
    clamp: bool = True
    """Keep pixels in the data's range, after each step."""
    blur_sigma: float = 0.0
    """Blur the images from time to time with a Gaussian of so many pixels; 0: never."""
    blur_every: int = 10
    """Number of steps from one blurring to the next."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("init_std", self.init_std is None or self.init_std >= 0, "at least 0, or empty")
        self.require("blur_sigma", self.blur_sigma >= 0, "at least 0")
        self.require("blur_every", self.blur_every >= 1, "at least 1")

    def build(self, teacher: nn.Module, metadata: ResolvedMetadata) -> ImageSpace:
        means = self.means_of_classes(teacher, metadata)
        if means is not None and self.init_std is not None:
            console.note(
                f"{self.named('init_std')}: images start around their class's mean, as far as pixels can vary there; it is of noise"
            )
        if means is None and are_photographs(metadata.inputs.shape):
            console.note(
                "photographs of pixels that start from noise teach little; parametrisation=auto makes them of waves"
            )
        return PixelSpace(self, metadata.inputs, means)

    def deviations(self, inputs: InputSpec) -> tuple[float, ...]:
        """Of the noise in each channel, or in all."""
        if self.init_std is None and inputs.centred:
            return tuple(inputs.usual_pixels()[1])
        return (0.1 if self.init_std is None else self.init_std,)


class PixelSpace(ImageSpace):
    """Pixels ``[M, *shape]``; ``means[K, *shape]``: of each class, to start from, if they are known, on the CPU."""

    def __init__(self, settings: Pixels, inputs: InputSpec, means: Tensor | None):
        self.settings, self.inputs, self.means = settings, inputs, means

    def start(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        from dfkd_exp.reconstruction.start import around

        noise = torch.randn(len(labels), *self.inputs.shape, generator=generator)
        if self.means is None:
            channels = (-1, *[1] * (noise.dim() - 2))
            mean, deviation = self.settings.means(self.inputs), self.settings.deviations(self.inputs)
            return torch.tensor(mean).view(channels) + torch.tensor(deviation).view(channels) * noise
        return around(self.means[labels], noise)

    def pixels(self, values: Tensor) -> tuple[Tensor, None]:
        return values, None

    def after_step(self, values: Tensor, step: int) -> None:
        from dfkd_exp.reconstruction.losses import gaussian_blur

        if self.settings.blur_sigma and (step + 1) % self.settings.blur_every == 0:
            values.copy_(gaussian_blur(values, self.settings.blur_sigma))
        if self.settings.clamp:
            values.clamp_(0, 1)
