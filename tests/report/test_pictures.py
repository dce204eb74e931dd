"""The picture of the reconstructions."""

import io
from base64 import b64decode

import numpy as np
import pytest
import torch
from PIL import Image

from dfkd_exp.data.images import LabelledImages
from dfkd_exp.inputs import InputSpec
from dfkd_exp.report import pictures
from dfkd_exp.report.pictures import draw_images, embedded
from tests.toy import INPUTS, toy_images

NAMES = ["a", "b", "c"]


def drawn(path, *arguments):
    """The picture's size and its levels of grey."""
    draw_images(path, *arguments)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.size, image.convert("L").getextrema()


def real():
    images, labels = toy_images()
    return LabelledImages((images * 255).to(torch.uint8), labels)


def test_a_picture_is_written_and_shows_something(tmp_path):
    images, labels = toy_images()
    _, (dark, bright) = drawn(tmp_path / "p.png", images, labels, INPUTS, NAMES, real())
    assert (tmp_path / "p.png").stat().st_size > 2000
    assert dark < 50
    assert bright == 255


def test_the_same_images_are_the_same_bytes(tmp_path):
    images, labels = toy_images()
    for name in ("one", "two"):
        draw_images(tmp_path / name, images, labels, INPUTS, NAMES, real())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_row_per_class_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_CLASSES", 4)
    images, labels = toy_images()
    heights = [
        drawn(tmp_path / "p.png", images, labels, INPUTS, [str(i) for i in range(n)], None)[0][1] for n in (2, 4, 30)
    ]
    assert heights[0] < heights[1] == heights[2]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_colours_pixels_and_normalised_inputs_are_shown(tmp_path, dtype):
    spec = InputSpec((3, 6, 6), (-2.0, -1.0, 0.0), (2.0, 3.0, 1.0))
    red = torch.zeros(6, 3, 6, 6, dtype=torch.uint8)
    red[:, 0] = 255
    images = red if dtype == torch.uint8 else spec.from_pixels(red)
    draw_images(tmp_path / "p.png", images, torch.arange(6) % 3, spec, NAMES, None)
    with Image.open(tmp_path / "p.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert (255, 0, 0) in colours


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_means_are_those_of_the_chosen_up_to_a_limit_batch_by_batch(dtype, monkeypatch):
    monkeypatch.setattr(InputSpec, "images_at_once", 7)
    monkeypatch.setattr(pictures, "MEAN_OF", 30)
    images = (toy_images()[0] * 255).to(torch.uint8)
    chosen = torch.arange(3, 100, 3)
    expected = images[chosen[:30]].float().mean(0) / 255
    shown = images if dtype == torch.uint8 else INPUTS.from_pixels(images)
    torch.testing.assert_close(pictures._mean(shown, chosen, INPUTS), expected)
    assert not pictures._mean(shown, chosen[:0], INPUTS).any()


def test_images_without_labels_are_one_row(tmp_path):
    images, labels = toy_images()
    (_, labelled), _ = drawn(tmp_path / "a.png", images, labels, INPUTS, NAMES, None)
    (_, unlabelled), _ = drawn(tmp_path / "b.png", images, None, INPUTS, NAMES, real())
    assert unlabelled < labelled


def test_a_class_that_is_shown_no_images_has_an_empty_row(tmp_path):
    images, labels = toy_images(2)
    size, _ = drawn(tmp_path / "p.png", images[labels != 1], labels[labels != 1], INPUTS, NAMES, real())
    assert size == drawn(tmp_path / "q.png", images, labels, INPUTS, NAMES, real())[0]


def test_a_pages_grey_pictures_take_half_the_bytes_and_look_the_same_and_coloured_ones_stay(tmp_path):
    noise = torch.rand(200, 200, generator=torch.Generator().manual_seed(0)).mul(255).byte().numpy()
    Image.fromarray(noise).convert("RGB").save(tmp_path / "grey.png")
    before, after = (tmp_path / "grey.png").read_bytes(), b64decode(embedded(tmp_path / "grey.png").partition(",")[2])
    assert len(after) < 0.6 * len(before)
    shown = np.asarray(Image.open(io.BytesIO(after)).convert("L"), dtype=int)
    assert abs(shown - noise).max() <= 8
    Image.new("RGB", (4, 4), "red").save(tmp_path / "red.png")
    assert b64decode(embedded(tmp_path / "red.png").partition(",")[2]) == (tmp_path / "red.png").read_bytes()
