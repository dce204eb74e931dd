"""What the teacher's inputs look like: shape and value range. It travels in the release, so nothing has to ask the data.

They are called images throughout; tables, series and volumes are images of fewer or more dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dfkd_exp.errors import DfkdError

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
"""Of one input: its features (a row of a table), or its channels and one, two or three dimensions of space (a series, an image, a
volume)."""
NOUNS = {1: "rows", 2: "series", 3: "images", 4: "volumes"}
"""What people call inputs of so many dimensions."""
DARK, MIDDLE = 0.15, 0.5
"""Means of pixels: of the digits of MNIST, and of values that are known to be in a range and no more."""
SMALLEST_PHOTOGRAPH = 24
"""Pixels along the shorter side, below which a part of an image shows nothing."""
LARGEST = 2**24
"""Numbers that are held of images at once; an image of a release has no more: a convolution's memory is a hundred times that."""


def noun(shape: Shape) -> str:
    """What people call inputs of a shape, in the plural."""
    return NOUNS.get(len(shape), "inputs")


def described(shape: Shape) -> str:
    """For people: what inputs of a shape are, and the shape."""
    return f"{noun(shape)} of shape {list(shape)}"


def are_large(shape: Shape) -> bool:
    """Whether inputs are images large enough for their parts to show something."""
    return len(shape) == 3 and min(shape[1:]) >= SMALLEST_PHOTOGRAPH


def are_photographs(shape: Shape) -> bool:
    """Whether inputs are taken for photographs: large images of three channels."""
    return are_large(shape) and shape[0] == 3


def require_size(network: str, shape: Shape, smallest: int = 1) -> None:
    """Raise DfkdError unless inputs are images, large enough for ``network`` in both directions."""
    if len(shape) != 3:
        raise DfkdError(
            f"{network} takes images, and the data's are {described(shape)}; choose mlp, which takes any, or cnn for what has space"
        )
    _, height, width = shape
    if min(height, width) < smallest:
        raise DfkdError(
            f"{network} needs images of at least {smallest}x{smallest} pixels, got {width}x{height}; set data.size or data.pad"
        )


@dataclass(frozen=True)
class InputSpec:
    """Inputs are ``[N, *shape]``; a pixel p in [0, 1] of channel c enters the network as ``low[c] + (high[c] - low[c]) p``.

    The first axis of ``shape`` is the channel's; of a row of a table, whose only axis it is, each feature is a channel. A pixel is a
    value in its channel's range, whatever the inputs are. With the usual normalisation ``(p - mean) / std``: ``low = -mean / std`` and
    ``high = (1 - mean) / std``.
    """

    shape: Shape
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def normalised(cls, shape: Shape, mean: list[float], std: list[float]) -> InputSpec:
        """From the field's ``mean`` and ``std`` per channel; empty lists mean pixels as they are, in [0, 1]."""
        channels = shape[0]
        return cls(shape, (0.0,) * channels, (1.0,) * channels).after(mean, std)

    @classmethod
    def observed(cls, batches: Iterable[Tensor]) -> InputSpec:
        """Shape and range per channel of inputs ``[N, *shape]``, some at a time. Raises DfkdError for inputs that have none."""
        import torch

        shapes, lows, highs = [], [], []
        for inputs in batches:
            require_floating(inputs)
            across = [dim for dim in range(inputs.dim()) if dim != 1]
            shapes.append(tuple(inputs.shape[1:]))
            lows.append(inputs.amin(across))
            highs.append(inputs.amax(across))
        if len(set(shapes)) > 1:
            raise DfkdError(
                f"inputs of shapes {list(shapes[0])} and {list(next(s for s in shapes if s != shapes[0]))}; give all one shape"
            )
        low, high = torch.stack(lows).amin(0), torch.stack(highs).amax(0)
        if not (low.isfinite() & high.isfinite()).all():
            raise DfkdError("some of the inputs are NaN or infinite; fill them or leave these examples out")
        high = torch.where(high > low, high, low + 1)  # of a channel that is all of one value
        return cls(shapes[0], tuple(low.tolist()), tuple(high.tolist()))

    def after(self, mean: list[float], std: list[float]) -> InputSpec:
        """These inputs less ``mean`` and divided by ``std``, per channel; empty lists change nothing."""
        means, stds = mean or [0.0] * len(self.low), std or [1.0] * len(self.low)
        low, high = (
            tuple((value - m) / s for value, m, s in zip(values, means, stds, strict=True))
            for values in (self.low, self.high)
        )
        return InputSpec(self.shape, low, high)

    @property
    def centred(self) -> bool:
        """Whether the network takes images less a mean, so that zeros are in the midst of every channel's range."""
        return all(low < 0 < high for low, high in zip(self.low, self.high, strict=True))

    def usual_pixels(self) -> tuple[list[float], list[float]]:
        """Mean and deviation of the pixels of each channel, as far as they are known: of inputs that were normalised, whose mean is then 0
        and deviation 1; else those of digits, light on dark, of grey images, and of all others those of a range."""
        if self.centred:
            ranges = [high - low for low, high in zip(self.low, self.high, strict=True)]
            return [-low / r for low, r in zip(self.low, ranges, strict=True)], [1 / r for r in ranges]
        grey = len(self.shape) == 3 and self.shape[0] == 1
        mean, deviation = (DARK, 0.3) if grey else (MIDDLE, 0.25)
        return [mean] * self.shape[0], [deviation] * self.shape[0]

    @property
    def images_at_once(self) -> int:
        """How many images go through a network at once where no gradient is needed: 500, or fewer large ones."""
        return max(1, min(500, LARGEST // math.prod(self.shape)))

    def example(self) -> Tensor:
        """Two images of noise as the network takes them, ``[2, *shape]`` (float32): to find out what its layers put out. They vary, since a
        network may divide each image by its own deviation."""
        import torch

        return self.from_pixels(torch.rand(2, *self.shape, generator=torch.Generator().manual_seed(0)))

    def bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """``low`` and ``high`` as ``[C, 1, …]`` tensors, one for each of the shape's axes, of the device and dtype of ``like``."""
        space = [1] * (len(self.shape) - 1)
        low, high = (like.new_tensor(values).view(-1, *space) for values in (self.low, self.high))
        return low, high

    def from_pixels(self, pixels: Tensor, bounds: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Pixels, uint8 or floating in [0, 1], ``[N, *shape]`` to the network's inputs (at least float32).

        ``bounds``: the `bounds` of such inputs, where they are needed so often that copying them to a GPU each time would take long.
        """
        values = unit_pixels(pixels)
        low, high = self.bounds(values) if bounds is None else bounds
        if values is pixels or values.requires_grad:
            return low + (high - low) * values
        return values.mul_(high - low).add_(low)  # in place: of large images, memory is most of the time

    def to_pixels(self, inputs: Tensor) -> Tensor:
        """The inverse: inputs ``[N, *shape]`` to pixels, floating, in [0, 1] where the inputs are in range."""
        low, high = self.bounds(inputs)
        return (inputs - low) / (high - low)

    def to_json(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> InputSpec:
        """That of a release, whose fields follow the schema. Raises ValueError for what no input can be."""
        shape, low, high = tuple(value["shape"]), value["low"], value["high"]
        if not len(low) == len(high) == shape[0] or not all(one < other for one, other in zip(low, high, strict=True)):
            raise ValueError(
                f"inputs of {shape[0]} channels from {low} to {high}: low must be below high in each of them"
            )
        if math.prod(shape) > LARGEST:
            raise ValueError(f"inputs of {' x '.join(map(str, shape))}, more than {LARGEST:,} numbers")
        return cls(shape, tuple(low), tuple(high))


def unit_pixels(pixels: Tensor) -> Tensor:
    """Pixels as they are stored, uint8 or floating in [0, 1], as numbers in [0, 1] of at least float32; ``pixels`` if they are such."""
    import torch

    values = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
    return values if pixels.is_floating_point() else values.div_(255)


def require_floating(inputs: Tensor) -> None:
    """Raise DfkdError unless ``inputs[N, *shape]`` are floating numbers of one to four dimensions: others have no gradient, and by the
    gradient inputs are reconstructed."""
    kind = str(inputs.dtype).removeprefix("torch.")
    if kind == "uint8":
        raise DfkdError("the inputs are bytes (uint8); give them as the teacher takes them, such as x.float() / 255")
    if not inputs.is_floating_point():
        raise DfkdError(
            f"the inputs are whole numbers ({kind}), and only floating ones can be reconstructed, by their gradient: give numbers as "
            "x.float(); of tokens, which an embedding looks up, give what the embedding puts out, and the teacher's part behind it"
        )
    if not 1 <= inputs.dim() - 1 <= max(NOUNS):
        raise DfkdError(
            f"the inputs have the shape {list(inputs.shape)}; batches [N, features] up to [N, channels, D, H, W] can be used"
        )
