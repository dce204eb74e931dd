"""What the teacher's inputs look like: shape and value range. It travels in the release, so nothing has to ask the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dfkd_exp.errors import DfkdError

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, int, int]
"""Of an image: channels, height, width."""
LARGEST = 2**24
"""Numbers that are held of images at once; an image of a release has no more: a convolution's memory is a hundred times that."""


def require_size(network: str, image_shape: Shape, smallest: int) -> None:
    """Raise DfkdError unless images are large enough for ``network`` in both directions."""
    _, height, width = image_shape
    if min(height, width) < smallest:
        raise DfkdError(
            f"{network} needs images of at least {smallest}x{smallest} pixels, got {width}x{height}; set data.size or data.pad"
        )


@dataclass(frozen=True)
class InputSpec:
    """Inputs are ``[N, C, H, W]``; a pixel p in [0, 1] of channel c enters the network as ``low[c] + (high[c] - low[c]) p``.

    With the usual normalisation ``(p - mean) / std``: ``low = -mean / std`` and ``high = (1 - mean) / std``.
    """

    shape: Shape
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def normalised(cls, shape: Shape, mean: list[float], std: list[float]) -> InputSpec:
        """From the field's ``mean`` and ``std`` per channel; empty lists mean pixels as they are, in [0, 1]."""
        channels = shape[0]
        means, stds = mean or [0.0] * channels, std or [1.0] * channels
        low = tuple((0 - m) / s for m, s in zip(means, stds, strict=True))
        high = tuple((1 - m) / s for m, s in zip(means, stds, strict=True))
        return cls(shape, low, high)

    @property
    def images_at_once(self) -> int:
        """How many images go through a network at once where no gradient is needed: 500, or fewer large ones."""
        return max(1, min(500, LARGEST // math.prod(self.shape)))

    def example(self) -> Tensor:
        """Two grey images as the network takes them, ``[2, C, H, W]`` (float32): to find out what its layers put out."""
        import torch

        return self.from_pixels(torch.full((2, *self.shape), 0.5))

    def bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """``low`` and ``high`` as ``[C, 1, 1]`` tensors of the device and dtype of ``like``."""
        low, high = (like.new_tensor(values).view(-1, 1, 1) for values in (self.low, self.high))
        return low, high

    def from_pixels(self, pixels: Tensor, bounds: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Pixels, uint8 or floating in [0, 1], ``[N, C, H, W]`` to the network's inputs (at least float32).

        ``bounds``: the `bounds` of such inputs, where they are needed so often that copying them to a GPU each time would take long.
        """
        values = unit_pixels(pixels)
        low, high = self.bounds(values) if bounds is None else bounds
        if values is pixels or values.requires_grad:
            return low + (high - low) * values
        return values.mul_(high - low).add_(low)  # in place: of large images, memory is most of the time

    def to_pixels(self, inputs: Tensor) -> Tensor:
        """The inverse: inputs ``[N, C, H, W]`` to pixels, floating, in [0, 1] where the inputs are in range."""
        low, high = self.bounds(inputs)
        return (inputs - low) / (high - low)

    def to_json(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> InputSpec:
        """That of a release, whose fields follow the schema. Raises ValueError for what no image can be."""
        channels, height, width = value["shape"]
        low, high = value["low"], value["high"]
        if not len(low) == len(high) == channels or not all(one < other for one, other in zip(low, high, strict=True)):
            raise ValueError(
                f"inputs of {channels} channels from {low} to {high}: low must be below high in each of them"
            )
        if math.prod(value["shape"]) > LARGEST:
            raise ValueError(f"inputs of {channels} x {height} x {width}, more than {LARGEST:,} numbers")
        return cls((channels, height, width), tuple(low), tuple(high))


def unit_pixels(pixels: Tensor) -> Tensor:
    """Pixels as they are stored, uint8 or floating in [0, 1], as numbers in [0, 1] of at least float32; ``pixels`` if they are such."""
    import torch

    values = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
    return values if pixels.is_floating_point() else values.div_(255)
