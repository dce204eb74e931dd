"""An image file as pixels: what anybody may have put into a folder is decoded as people see it, or refused by name, and quickly."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, in_brief

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MODES = {1: "L", 3: "RGB"}
MOST_PIXELS = 2**26
"""Of an image before it is resized: 67 megapixels. Some are decoded at once, and a small file may claim to be of any size."""
LEAST_OF_16_BITS = 2**14
"""An image of 16 bits whose values are all smaller has fewer: cameras have 12 or 14 of them. It would be all but black."""


def read_image(name: str, open_file: Callable[[], BinaryIO], prepare: Callable[[Image], Tensor]) -> Tensor:
    """``prepare(image)`` of the image in the file that ``open_file()`` gives. Raises DfkdError, with its ``name``, if it cannot be read."""
    import PIL.Image

    def opened() -> Tensor:
        with open_file() as file, PIL.Image.open(file) as image:
            return prepare(image)

    return readable(name, opened)


def readable(name: str, read: Callable[[], Tensor]) -> Tensor:
    """What ``read()`` makes of an image that a message calls ``name``; whatever the decoder raises as a DfkdError."""
    import PIL.Image

    warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)  # what is too large is refused
    try:
        return read()
    except DfkdError as error:
        raise error if name in str(error) else DfkdError(f"{name} {error}") from error
    except PIL.UnidentifiedImageError as error:
        raise DfkdError(f"{name} is not a readable image; repair or remove it") from error
    except Exception as error:  # of many decoders, any
        why = in_brief(error) if not isinstance(error, OSError | ValueError) else brief(str(error))
        raise DfkdError(f"{name} is not a readable image ({why}); repair or remove it") from error


def opened(value: Any) -> Image:
    """An image as a cell of a table has it, as PIL's: that already, a file's bytes, or pixels of 0 to 255 ``[H, W]``, ``[H, W, C]`` or
    ``[C, H, W]``. Raises DfkdError for anything else."""
    import numpy
    import PIL.Image

    value = value.get("bytes") or value.get("path") if isinstance(value, dict) else value
    if isinstance(value, PIL.Image.Image):
        return value
    if isinstance(value, bytes):
        return PIL.Image.open(BytesIO(value))
    pixels = numpy.asarray(value)
    if pixels.ndim == 3 and pixels.shape[0] in MODES and pixels.shape[2] not in MODES:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype.kind not in "iu" or pixels.ndim not in (2, 3) or pixels.min() < 0 or pixels.max() > 255:
        raise DfkdError(
            f"is {type(value).__name__} of shape {list(pixels.shape)} and not an image, its bytes, or whole numbers from 0 to 255 [H, W, C]"
        )
    return PIL.Image.fromarray(pixels.astype(numpy.uint8))


Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge, in pixels."""


def middle(image: Image, share: float) -> Box:
    """The middle square of an image, of a ``share`` of its shorter side."""
    side = max(1, round(share * min(image.size)))
    left, upper = (image.width - side) // 2, (image.height - side) // 2
    return left, upper, left + side, upper + side


def to_tensor(image: Image, channels: int, size: int | None, crop: Box | float | None = None) -> Tensor:
    """A PIL image as uint8 ``[C, H, W]``: turned as its EXIF says, cropped, converted to grey or colour, and resized. ``crop``: what is
    kept of it, or of what share of its shorter side the `middle` is.

    Raises DfkdError, which says what it is of the image but not its name, for one that is too large, is not opaque, or has pixels of
    unknown range.
    """
    import numpy
    import torch
    from PIL import ImageOps
    from PIL.Image import Resampling

    if image.width * image.height > MOST_PIXELS:
        raise DfkdError(
            f"claims to be {image.width:,}x{image.height:,} pixels, more than the {MOST_PIXELS:,} that are decoded; make it smaller"
        )
    image = _of_8_bits(image)
    ImageOps.exif_transpose(image, in_place=True)
    image = _opaque(image)
    if crop is not None:
        image = image.crop(crop if isinstance(crop, tuple) else middle(image, crop))
    image = image.convert(MODES[channels])
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Resampling.BILINEAR)
    pixels = numpy.array(image).reshape(image.height, image.width, channels)
    return torch.from_numpy(numpy.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _of_8_bits(image: Image) -> Image:
    """An image of 16 bits as one of 8; DfkdError if the range of its pixels is unknown."""
    import numpy
    from PIL.Image import fromarray

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values = numpy.asarray(image)
        if image.format != "PPM":  # whose range stands in the file
            _require_16_bits(int(values.max()))
        return fromarray((values >> 8).astype(numpy.uint8))  # Pillow would clip 16 bits at 255
    if image.mode in ("I", "F"):
        raise DfkdError(f"has pixels of unknown range (mode {image.mode}); convert it to 8 bits")
    if any(";16" in str(tile) for tile in getattr(image, "tile", ())):  # which Pillow reads of colours the upper 8 of
        _require_16_bits(int(numpy.asarray(image.convert("RGB")).max()) << 8)
    return image


def _require_16_bits(largest: int) -> None:
    if 0 < largest < LEAST_OF_16_BITS:
        raise DfkdError(
            f"has 16 bits per pixel, of which it uses {largest.bit_length()}: their range is unknown; convert it to 8 bits"
        )


def _opaque(image: Image) -> Image:
    """The image without its alpha; DfkdError if anything shines through, as what is behind it is unknown."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]  # of one channel they are two numbers
        raise DfkdError(
            "is transparent in places, and what is behind it is unknown; put it on a background and save it without alpha"
        )
    return image
