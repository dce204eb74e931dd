"""Data sets of image files: decoded once, several at a time, and kept in the store as files that are mapped into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp.data.base import MOST_SIDE, Data, Outline
from dfkd_exp.data.files import MODES, to_tensor
from dfkd_exp.errors import DfkdError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from dfkd_exp.data.images import ImageData

DECODING = 2
"""Of how files become pixels, part of the data's identity: raise it when that changes."""
WINDOW = 256
"""How many decoded images may wait for the disk."""
MOST_FAULTS = 20
"""So many images that cannot be read are named together, for all to be mended before the next attempt."""


@dataclass(frozen=True)
class Part:
    """Images before they are decoded: ``read(i)`` gives the i-th as uint8 ``[C, H, W]``, from any thread; ``name(i)`` is what a
    message calls it."""

    labels: list[int]
    read: Callable[[int], Tensor]
    name: Callable[[int], str]

    def select(self, index: list[int]) -> Part:
        """Those of ``index``."""
        return Part([self.labels[i] for i in index], lambda i: self.read(index[i]), lambda i: self.name(index[i]))


class Unreadable(DfkdError):
    """Images that cannot be used, each by its own error."""

    def __init__(self, faults: list[DfkdError]) -> None:
        self.faults = faults[:MOST_FAULTS]
        many = f"{len(faults)}" if len(faults) < MOST_FAULTS else f"at least {MOST_FAULTS}"
        said = "\n  ".join(map(str, self.faults))
        super().__init__(f"{many} images cannot be used:\n  {said}" if len(faults) > 1 else said)


@dataclass
class DecodedData(Data):
    """A data set whose images take long enough to decode, or room enough, for the result to be kept in the store."""

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "decoding": DECODING}

    @property
    def kept_in_store(self) -> bool:
        return True

    def find(self) -> tuple[list[str], dict[str, Part]]:
        """The names of the classes, and the parts ``train`` and ``test``. Opens no image."""
        raise NotImplementedError

    @cached_property
    def _found(self) -> tuple[list[str], dict[str, Part]]:
        classes, parts = self.find()
        if self.limit is None:
            return classes, parts
        index = self.limited({name: part.labels for name, part in parts.items()}, len(classes))
        return classes, {name: part.select(index[name]) for name, part in parts.items()}

    def outline(self) -> Outline:
        """What the first image and the number of the others say."""
        classes, parts = self._found
        _require_some(parts["train"], "training images")
        channels, height, width = parts["train"].read(0).shape
        shape = channels, height + 2 * self.pad, width + 2 * self.pad
        return Outline(shape, classes, len(parts["train"].labels), channels * height * width)

    def load(self, folder: Path | None = None) -> ImageData:
        """Decode the images, into memory, or into files in ``folder`` that are mapped."""
        import torch

        from dfkd_exp.data.images import ImageData, LabelledImages
        from dfkd_exp.data.mapped import map_images, write_images

        classes, parts = self._found
        decoded, faults = {}, list[DfkdError]()
        for name, part in parts.items():
            images, labels = _decode(part, self.pad, f"decoding {name} images"), torch.tensor(part.labels)
            try:
                if folder is None:
                    decoded[name] = LabelledImages(torch.stack(list(images)), labels)
                else:
                    write_images(folder / f"{name}.safetensors", images, labels)
                    decoded[name] = map_images(folder / f"{name}.safetensors")
            except Unreadable as error:
                faults.extend(error.faults)
        if faults:
            raise Unreadable(faults)
        channels, height, width = decoded["train"].images.shape[1:]
        num_bytes = channels * (height - 2 * self.pad) * (width - 2 * self.pad)
        return ImageData(decoded["train"], decoded["test"], classes, bytes_per_image=num_bytes)


@dataclass
class Photographs(DecodedData):
    """Images of somebody's own, of whatever sizes and colours, brought to one."""

    size: int | None = None
    """Resize to size x size pixels, whose sides are stretched to one length unless data.crop is set; empty: all images must already have
    one size."""
    crop: float | None = None
    """Take the middle square of so much of an image's shorter side before it is resized: 0.875, as networks for ImageNet are tested, to 1;
    empty: the whole image."""
    channels: int = 3
    """1 (grey) or 3 (colour); images are converted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("channels", self.channels in MODES, "1 or 3")
        require_size(self, self.size)
        self.require("crop", self.crop is None or 0 < self.crop <= 1, "above 0 and at most 1, or empty")
        self.require("crop", self.crop is None or self.size is not None, "empty, or beside data.size")

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in super().identity().items() if (name, value) != ("crop", None)}

    def pixels(self, image: Image) -> Tensor:
        """Of a PIL image, uint8 ``[C, H, W]``."""
        return to_tensor(image, self.channels, self.size, self.crop)


def require_size(settings: Data, size: int | None) -> None:
    """Raise ConfigError unless ``size``, of those settings, is that of an image."""
    settings.require("size", size is None or 1 <= size <= MOST_SIDE, f"from 1 to {MOST_SIDE:,}, or empty")


def _decode(part: Part, pad: int, label: str) -> Iterator[Tensor]:
    """The images in order, padded. Raises DfkdError if there are none, or two that differ in size, and Unreadable at the end."""
    from multiprocessing.pool import ThreadPool

    import torch
    import torch.nn.functional as F

    from dfkd_exp.console import Progress

    count, shape, faults = len(part.labels), None, list[DfkdError]()
    _require_some(part, label)

    def attempt(index: int) -> Tensor | DfkdError:
        try:
            return part.read(index)
        except DfkdError as error:
            return error

    # Pillow decodes and resizes without holding the interpreter's lock.
    with Progress(label, count) as progress, ThreadPool(torch.get_num_threads()) as pool:
        for start in range(0, count, WINDOW):
            window = range(start, min(start + WINDOW, count))
            for index, pixels in zip(window, pool.imap(attempt, window), strict=True):
                progress.advance()
                if isinstance(pixels, DfkdError):
                    faults.append(pixels)
                    continue
                shape = shape or pixels.shape
                if pixels.shape != shape:
                    other = DfkdError(
                        f"{part.name(index)} is {pixels.shape[2]}x{pixels.shape[1]} pixels but the first image is "
                        f"{shape[2]}x{shape[1]}; set data.size=N to resize all to NxN"
                    )
                    raise Unreadable([*faults, other])  # if one is, most are
                if not faults:
                    yield F.pad(pixels, [pad] * 4) if pad else pixels
            if len(faults) >= MOST_FAULTS:
                break
    if faults:
        raise Unreadable(faults)


def _require_some(part: Part, what: str) -> None:
    if not part.labels:
        raise DfkdError(f"{what}: there are none; choose data with images to train and to test")
