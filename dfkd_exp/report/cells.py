"""How one input is shown in a cell of a picture: an image as it is, slices of a volume, the curves of a series, a table's row as bars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from dfkd_exp.inputs import Shape

if TYPE_CHECKING:
    from torch import Tensor

SIDE, VOLUME = 74, 105
"""Pixels of the side of an image, and of a volume's slices together."""
SERIES_WIDTH, LEAST_TABLE, BAR, MOST_TABLE = 150, 117, 9, 270
"""Pixels of the width of a series, of a table's row, and of each of its bars."""
SHOWN = {1: 4, 2: 5}
"""So many examples of a class are shown where cells are wide."""
SLICES = 2
"""Of a volume: so many in a row and below one another."""
FINE = 4
"""Lines are drawn so many times larger, and then made smaller, without steps."""
COLOURS = ("#1f5fa8", "#d1661c", "#2b8a3e", "#a8328f", "#7a5c00", "#0b7285")
"""Of the channels of a series, in turn; the first of bars."""
FRAME, STRIPE = "#d9d9d9", "#f3f3f3"


def cell_size(shape: Shape) -> tuple[int, int]:
    """Width and height of the cell of an input of ``shape``, in pixels."""
    if len(shape) == 1:
        return min(MOST_TABLE, max(LEAST_TABLE, BAR * shape[0])), SIDE
    if len(shape) == 2:
        return SERIES_WIDTH, SIDE
    side = VOLUME if len(shape) == 4 else SIDE
    return side, side


def num_shown(shape: Shape, most: int) -> int:
    """How many examples of a class are shown, ``most`` of images."""
    return min(most, SHOWN.get(len(shape), most))


def painted(pixels: Tensor) -> Tensor:
    """An input's ``pixels[*shape]`` in [0, 1] as colours ``[height, width, 3]`` that fit into its cell."""
    width, height = cell_size(tuple(pixels.shape))
    pixels = pixels.float().clamp(0, 1)
    if pixels.dim() == 1:
        return _bars(pixels, width, height)
    if pixels.dim() == 2:
        return _curves(pixels, width, height)
    if pixels.dim() == 4:
        return _slices(pixels)
    return _image(pixels, SIDE)


def _image(pixels: Tensor, side: int) -> Tensor:
    """``pixels[C, H, W]``, C 3 or else shown as grey, as large as fits into a square."""
    height, width = (max(1, side * size // max(pixels.shape[1:])) for size in pixels.shape[1:])
    larger = F.interpolate(pixels[None], (height, width), mode="nearest-exact")[0]
    return (larger if len(larger) == 3 else larger[:1].expand(3, -1, -1)).permute(1, 2, 0)


def _slices(pixels: Tensor) -> Tensor:
    """Of ``pixels[C, D, H, W]`` slices at even distances, from the first to the last in the order of reading."""
    count, side = SLICES**2, (VOLUME - SLICES + 1) // SLICES
    sheet = torch.ones(VOLUME, VOLUME, 3)
    for number in range(count):
        part = _image(pixels[:, int((number + 0.5) * pixels.shape[1] / count)], side)
        row, column = divmod(number, SLICES)
        top, left = row * (side + 1), column * (side + 1)
        sheet[top : top + len(part), left : left + part.shape[1]] = part
    return sheet


def _curves(pixels: Tensor, width: int, height: int) -> Tensor:
    """The channels of ``pixels[C, L]``, each in its colour, low values at the bottom; in a frame."""
    canvas, draw = _canvas(width, height)
    right, bottom = FINE * width - 1, FINE * height - 1
    draw.rectangle((0, 0, right, bottom), outline=FRAME, width=FINE)
    margin, length = 3 * FINE, pixels.shape[1]
    for number in reversed(range(len(pixels))):
        points = [
            (
                margin + (right - 2 * margin) * place / max(length - 1, 1),
                bottom - margin - (bottom - 2 * margin) * value,
            )
            for place, value in enumerate(pixels[number].tolist())
        ]
        draw.line(
            points if len(points) > 1 else points * 2, fill=COLOURS[number % len(COLOURS)], width=5, joint="curve"
        )
    return _shrunk(canvas, width, height)


def _bars(pixels: Tensor, width: int, height: int) -> Tensor:
    """A bar for each of ``pixels[F]``, from the bottom, its range's least value; stripes behind tell them apart."""
    canvas, draw = _canvas(width, height)
    step, bottom = FINE * width / len(pixels), FINE * height - 1
    for number, value in enumerate(pixels.tolist()):
        left, right = number * step, (number + 1) * step
        if number % 2 == 0:
            draw.rectangle((left, 0, right - 1, bottom), fill=STRIPE)
        gap = 0.15 * step
        draw.rectangle((left + gap, bottom - (bottom - FINE) * value, math.floor(right - gap), bottom), fill=COLOURS[0])
    draw.line((0, bottom - 1, FINE * width, bottom - 1), fill="#808080", width=FINE)
    return _shrunk(canvas, width, height)


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (FINE * width, FINE * height), "white")
    return canvas, ImageDraw.Draw(canvas)


def _shrunk(canvas: Image.Image, width: int, height: int) -> Tensor:
    smaller = canvas.resize((width, height), Image.Resampling.BOX)
    return torch.frombuffer(bytearray(smaller.tobytes()), dtype=torch.uint8).view(height, width, 3) / 255
