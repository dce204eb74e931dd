"""Images as sums of waves, the long ones large, as in photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp.errors import DfkdError
from dfkd_exp.reconstruction.parametrisation.base import FromMean, ImageSpace, within_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.metadata import ResolvedMetadata


@dataclass
class Frequencies(FromMean):
    """Amplitudes of cosines, each in units of what a photograph's are at its frequency: all start alike and take steps alike, so that an
    image's shapes are found before its details, and its details stay small. Of three channels it is their brightness and two differences
    of colours that are so described.

    Source: Olah, Mordvintsev and Schubert (2017), "Feature visualization", where it is a Fourier transform, and the colours' covariance is
    ImageNet's. Differs: a cosine transform (type II), which has no seam at the edges.
    """

    falloff: float = 1.0
    """Amplitudes fall with this power of the frequency (photographs: about 1); 0: all frequencies alike."""
    colour: float = 0.3
    """Amplitude of the differences of colours beside that of the brightness (photographs: about 0.3)."""
    init_std: float | None = None
    """Deviation of the pixels of the noise that images start from; empty: the usual one, as far as it is known."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("falloff", self.falloff >= 0, "at least 0")
        self.require("colour", self.colour > 0, "positive")
        self.require("init_std", self.init_std is None or self.init_std >= 0, "at least 0, or empty")

    def check(self, teacher: nn.Module, inputs: InputSpec) -> None:
        if len(inputs.shape) == 1:
            raise DfkdError(
                "parametrisation=frequencies is for what has space, and the data are tables; set parametrisation=pixels"
            )

    def build(self, teacher: nn.Module, metadata: ResolvedMetadata) -> ImageSpace:
        from dfkd_exp.models.recording import device_of

        inputs = metadata.inputs
        self.check(teacher, inputs)
        return FrequencySpace(self, inputs, device_of(teacher), self.means_of_classes(teacher, metadata))


class FrequencySpace(ImageSpace):
    """Amplitudes ``[M, *shape]``, of deviation 1 where pixels have their usual one. ``means[K, *shape]``: pixels of each class's mean, on
    the CPU, to start around, if they are known."""

    def __init__(self, settings: Frequencies, inputs: InputSpec, device: torch.device, means: Tensor | None = None):
        import torch

        self.shape = inputs.shape
        channels, *space = inputs.shape
        mean, deviation = settings.means(inputs), inputs.usual_pixels()[1]
        self._mean, self._deviation = (
            torch.tensor(values).view(-1, *[1] * len(space)).to(device) for values in (mean, deviation)
        )
        colours = _opponents() if channels == 3 else torch.eye(channels)
        self._waves = [matrix.to(device) for matrix in (colours, *map(cosines, space))]
        sizes = _falling(space, settings.falloff).expand(inputs.shape).clone()
        if channels == 3:
            sizes[1:] *= settings.colour
        self._sizes = (sizes / sizes.square().mean().sqrt()).to(device)
        size = 1.0 if settings.init_std is None else settings.init_std / torch.tensor(deviation).square().mean().sqrt()
        self._noise = float(size)
        self._starts = None if means is None else self._amplitudes(means.to(device)).cpu()

    def start(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        noise = self._noise * torch.randn(len(labels), *self.shape, generator=generator)
        return noise if self._starts is None else self._starts[labels] + noise

    def pixels(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return within_range(self._mean + self._deviation * _along_axes(values * self._sizes, self._waves))

    def _amplitudes(self, pixels: Tensor) -> Tensor:
        """What stands for ``pixels[M, *shape]``: the waves are orthonormal."""
        return _along_axes((pixels - self._mean) / self._deviation, [waves.mT for waves in self._waves]) / self._sizes


def _along_axes(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """``values[M, *shape]``, each axis of the shape multiplied by its matrix from the right."""
    for axis, matrix in enumerate(matrices, start=1):
        values = (values.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return values


def cosines(length: int) -> Tensor:
    """The cosine transform of type II, orthonormal: a wave in each row of ``[length, length]``, from the constant to the shortest."""
    import torch

    places = torch.arange(length, dtype=torch.float64)
    waves = (math.pi / length * torch.outer(places, places + 0.5)).cos() * math.sqrt(2 / length)
    waves[0] /= math.sqrt(2)
    return waves.float()


def _opponents() -> Tensor:
    """Brightness, and two differences of red, green and blue: orthonormal rows."""
    import torch

    rows = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    return rows / rows.norm(dim=1, keepdim=True)


def _falling(space: Sequence[int], falloff: float) -> Tensor:
    """``f^-falloff`` of each wave of ``space``, in cycles per pixel; the constant one has that of the longest."""
    import torch

    squares = [(torch.arange(length) / (2 * length)).square() for length in space]
    frequency = torch.meshgrid(*squares, indexing="ij")
    return torch.stack(frequency).sum(0).sqrt().clamp_min(0.5 / max(space)) ** -falloff
