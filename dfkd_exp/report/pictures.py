"""Pictures, drawn without a display."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops

from dfkd_exp.harmless import brief
from dfkd_exp.inputs import InputSpec, Shape, noun
from dfkd_exp.report.cells import cell_size, num_shown, painted
from dfkd_exp.training.preview import Preview

if TYPE_CHECKING:
    from torch import Tensor

MOST_CLASSES = 20
SAMPLES = 8
GREYS = 64
GAP, LEFT, DPI = 6, 130, 100
"""Pixels between pictures, and left of them; and per inch, by which letters have a size."""
NAMES, MOST_NAMED = 118, 30
"""Pixels below a table's bars for the names of its features, and of how many these are shown."""
MOST_LETTERS = 24
"""Of such a name."""


def draw_images(
    path: Path,
    preview: Preview,
    classes: list[str],
    real: Preview | None,
    features: Sequence[str] = (),
    moved: Sequence[Tensor] = (),
) -> None:
    """A PNG: a row per class (the first 20), with the mean of the ``real`` images if there are any, the mean of those of the transfer
    set and some of them. Without labels, one row. ``features``: names of a table's features, if they are known; ``moved``: pixels
    ``[*shape]`` of some as a student sees them, in a row of their own, as far as there is room."""
    names = [*map(brief, classes[:MOST_CLASSES])] if preview.labelled else ["unlabelled"]
    shape = tuple(preview.means[0].shape)
    samples, what = num_shown(shape, SAMPLES), noun(shape)
    headings = ([f"mean of the\nreal {what}"] if real is not None else []) + [f"mean of\nthese {what}"]
    rows = [
        [*(shown.means[index] for shown in (real, preview) if shown is not None), *preview.samples[index][:samples]]
        for index in range(len(names))
    ]
    columns = len(headings) + samples
    if moved:
        names.append("as the student\nsees some")
        rows.append([*moved[:columns]])
    sheet = Sheet(len(rows), columns, above=60, shape=shape, features=features)
    for row, (name, pictures) in enumerate(zip(names, rows, strict=True)):
        sheet.add_row(row, name, pictures)
    for column, text in enumerate(headings):
        sheet.write(text, column + 0.5, above=True)
    sheet.write("what the student is trained on", len(headings) + samples / 2, above=True)
    sheet.save(path)


@dataclass(frozen=True)
class Neighbours:
    """Images a student was ``shown``, the ``training`` and ``held_out`` images nearest to each (``[N, *shape]``, as the teacher takes
    them), and their distances ``[N]``."""

    shown: Tensor
    training: Tensor
    held_out: Tensor
    to_training: Tensor
    to_held_out: Tensor


def draw_neighbours(path: Path, found: Neighbours, inputs: InputSpec, features: Sequence[str] = ()) -> None:
    """A PNG: of the images nearest to a training image, eight of them, that image, and the nearest held-out one, with distances."""
    closest = found.to_training.argsort()[: num_shown(inputs.shape, SAMPLES)]
    sheet = Sheet(3, len(closest), above=40, below=18, shape=inputs.shape, features=features)
    of_them = noun(inputs.shape).removesuffix("s") if len(inputs.shape) != 2 else "series"
    sheet.add_row(0, "shown to\nthe student", [*inputs.to_pixels(found.shown[closest])])
    similar = {
        f"most similar\ntraining {of_them}": (found.training, found.to_training),
        f"most similar\nheld-out {of_them}": (found.held_out, found.to_held_out),
    }
    for row, (name, (pictures, distances)) in enumerate(similar.items(), start=1):
        sheet.add_row(row, name, [*inputs.to_pixels(pictures[closest])])
        for column, number in enumerate(closest):
            sheet.write(f"{distances[number]:.3f}", column + 0.5, row)
    title = "Similarity, not privacy: root mean squared difference below each"
    sheet.write(title, len(closest) / 2, above=True)
    sheet.save(path)


class Sheet:
    """Rows of pictures of inputs of a ``shape`` with words around them, ``above`` all and ``below`` each row so many pixels for these: one
    array, since matplotlib takes twenty milliseconds for each of a hundred axes. ``features``: names of a table's, below all."""

    def __init__(
        self, num_rows: int, num_columns: int, above: int, shape: Shape, below: int = 0, features: Sequence[str] = ()
    ):
        import torch
        from matplotlib.figure import Figure

        self.cell_width, self.cell_height = cell_size(shape)
        self.above, self.row_height = above, self.cell_height + GAP + below
        named = features if len(shape) == 1 and len(features) == shape[0] <= MOST_NAMED else ()
        self.width = LEFT + num_columns * (self.cell_width + GAP)
        self.height = above + num_rows * self.row_height + (NAMES if named else 0)
        self.pixels = torch.ones(self.height, self.width, 3)
        # Half a pixel more, so that rounding down to whole pixels cannot lose one.
        inches = ((self.width + 0.5) / DPI, (self.height + 0.5) / DPI)
        self.figure = Figure(figsize=inches, dpi=DPI, facecolor="white")
        for column, (number, name) in itertools.product(range(num_columns), enumerate(named)):
            x = LEFT + column * (self.cell_width + GAP) + (number + 0.5) * self.cell_width / len(named)
            top = above + num_rows * self.row_height
            self._text(
                brief(name)[:MOST_LETTERS], x, top, ha="center", va="top", fontsize=6, rotation=90, color="#505050"
            )

    def add_row(self, row: int, name: str, pictures: list[Tensor]) -> None:
        """``pictures`` ``[*shape]`` in [0, 1], each in the middle of its cell."""
        top = self.above + row * self.row_height
        for column, picture in enumerate(pictures):
            shown = painted(picture)
            height, width, _ = shown.shape
            y = top + (self.cell_height - height) // 2
            x = LEFT + column * (self.cell_width + GAP) + (self.cell_width - width) // 2
            self.pixels[y : y + height, x : x + width] = shown
        self._text(name, LEFT - 8, top + self.cell_height / 2, ha="right", va="center", fontsize=9)

    def write(self, text: str, column: float, row: int = 0, above: bool = False) -> None:
        """``text`` with its middle so many ``column``s from the left, below a row or above all."""
        x = LEFT + column * (self.cell_width + GAP) - GAP / 2
        y = self.above - 6 if above else self.above + row * self.row_height + self.cell_height + 3
        self._text(text, x, y, ha="center", va="bottom" if above else "top", fontsize=8 if above else 7)

    def save(self, path: Path) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        words = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
        pictures = Image.fromarray((self.pixels * 255).round().byte().numpy())
        ImageChops.darker(words, pictures).save(path, "png")  # each is white where the other is not

    def _text(self, text: str, x: float, y: float, **how: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, parse_math=False, **how)  # $ is a letter of a name


def embedded(path: Path) -> str:
    """A PNG file as the source of a page's ``img``; a grey one in as many grey levels as the eye tells apart, which halves its bytes."""
    content = path.read_bytes()
    red, green, blue = Image.open(path).convert("RGB").split()
    if not (ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox()):
        smaller = io.BytesIO()
        red.quantize(GREYS).save(smaller, "png", optimize=True)
        content = smaller.getvalue()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
