"""Pictures, drawn without a display."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops
from torch import Tensor

from dfkd_exp.inputs import InputSpec
from dfkd_exp.training.transfer_set import Preview

MOST_CLASSES = 20
SAMPLES = 8
GREYS = 64


def draw_images(path: Path, preview: Preview, classes: list[str], real: Preview | None) -> None:
    """A PNG: a row per class (the first 20), with the mean of the ``real`` images if there are any, the mean of those of the transfer
    set and some of them. Without labels, one row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = classes[:MOST_CLASSES] if preview.labelled else ["unlabelled"]
    headings = (["mean of the\nreal images"] if real is not None else []) + ["mean of\nthese images"]
    figure = Figure(figsize=(0.8 * (len(headings) + SAMPLES) + 1.6, 0.8 * len(names) + 0.7), facecolor="white")
    axes = figure.subplots(len(names), len(headings) + SAMPLES, squeeze=False)
    for index, (name, row) in enumerate(zip(names, axes, strict=True)):
        means = [shown.means[index] for shown in (real, preview) if shown is not None]
        pixels = preview.samples[index][:SAMPLES]
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        for axis, picture in zip(row, [*means, *pixels], strict=False):
            _show(axis, picture)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for axis, text in zip(axes[0], headings, strict=False):
        axis.set_title(text, fontsize=7)
    axes[0][len(headings) + SAMPLES // 2].set_title("what the student is trained on", fontsize=8)
    figure.subplots_adjust(
        left=0.13, right=0.99, top=1 - 0.6 / (0.8 * len(names) + 0.7), bottom=0.01, wspace=0.08, hspace=0.08
    )
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})


@dataclass(frozen=True)
class Neighbours:
    """Images a student was ``shown``, the ``training`` and ``held_out`` images nearest to each (``[N, C, H, W]``, as the teacher takes
    them), and their distances ``[N]``."""

    shown: Tensor
    training: Tensor
    held_out: Tensor
    to_training: Tensor
    to_held_out: Tensor


def draw_neighbours(path: Path, found: Neighbours, inputs: InputSpec) -> None:
    """A PNG: of the images nearest to a training image, eight of them, that image, and the nearest held-out one, with distances."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    closest = found.to_training.argsort()[:SAMPLES]
    figure = Figure(figsize=(0.95 * len(closest) + 1.6, 3.9), facecolor="white")
    axes = figure.subplots(3, len(closest), squeeze=False)
    rows = (("shown to\nthe student", found.shown, None), ("most similar\ntraining image", found.training, found.to_training),
            ("most similar\nheld-out image", found.held_out, found.to_held_out))  # fmt: skip
    for row, (name, images, distances) in zip(axes, rows, strict=True):
        for axis, number, pixels in zip(row, closest, inputs.to_pixels(images[closest]), strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            _show(axis, pixels)
            if distances is not None:
                axis.set_xlabel(f"{distances[number]:.3f}", fontsize=7)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle("Similarity, not privacy: root mean squared difference below each image", fontsize=9)
    figure.subplots_adjust(
        left=1.5 / (0.95 * len(closest) + 1.6), right=0.99, top=0.9, bottom=0.06, wspace=0.08, hspace=0.25
    )
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})


def embedded(path: Path) -> str:
    """A PNG file as the source of a page's ``img``; a grey one in as many grey levels as the eye tells apart, which halves its bytes."""
    content = path.read_bytes()
    red, green, blue = Image.open(path).convert("RGB").split()
    if not (ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox()):
        smaller = io.BytesIO()
        red.quantize(GREYS).save(smaller, "png", optimize=True)
        content = smaller.getvalue()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _show(axis, picture: Tensor) -> None:
    picture = picture.clamp(0, 1)
    if picture.shape[0] == 3:
        axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
    else:
        axis.imshow(picture[0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
