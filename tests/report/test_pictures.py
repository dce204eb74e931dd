"""The picture of the reconstructions."""

import io
from base64 import b64decode

import numpy as np
import torch
from PIL import Image

from dfkd_exp.inputs import InputSpec
from dfkd_exp.report import pictures
from dfkd_exp.report.pictures import draw_images, embedded
from dfkd_exp.training.augmentation import FlipAndCrop
from dfkd_exp.training.settings import Training
from dfkd_exp.training.transfer_set import FixedImages
from tests.toy import toy_images

NAMES = ["a", "b", "c"]


def preview(per_class=40, labelled=True):
    images, labels = toy_images(per_class)
    return FixedImages.of(images, labels if labelled else None).preview(3, pictures.SAMPLES)


def drawn(path, *arguments):
    """The picture's size and its levels of grey."""
    draw_images(path, *arguments)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.size, image.convert("L").getextrema()


def test_a_picture_is_written_and_shows_something(tmp_path):
    _, (dark, bright) = drawn(tmp_path / "p.png", preview(), NAMES, preview())
    assert (tmp_path / "p.png").stat().st_size > 2000
    assert dark < 50
    assert bright == 255


def test_the_same_images_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        draw_images(tmp_path / name, preview(), NAMES, preview())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_row_per_class_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_CLASSES", 4)
    images, labels = toy_images()
    many = FixedImages.of(images, labels).preview(30, 8)
    heights = [drawn(tmp_path / "p.png", many, [str(i) for i in range(n)], None)[0][1] for n in (2, 4, 30)]
    assert heights[0] < heights[1] == heights[2]


def test_colours_are_shown(tmp_path):
    red = torch.zeros(6, 3, 6, 6, dtype=torch.uint8)
    red[:, 0] = 255
    draw_images(tmp_path / "p.png", FixedImages.of(red, torch.arange(6) % 3).preview(3, 8), NAMES, None)
    with Image.open(tmp_path / "p.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert (255, 0, 0) in colours


def test_images_without_labels_are_one_row(tmp_path):
    (_, labelled), _ = drawn(tmp_path / "a.png", preview(), NAMES, None)
    (_, unlabelled), _ = drawn(tmp_path / "b.png", preview(labelled=False), NAMES, preview(labelled=False))
    assert unlabelled < labelled


def test_a_class_that_is_shown_no_images_has_an_empty_row(tmp_path):
    images, labels = toy_images(2)
    lacking = FixedImages.of(images[labels != 1], labels[labels != 1]).preview(3, 8)
    size, _ = drawn(tmp_path / "p.png", lacking, NAMES, preview(2))
    assert size == drawn(tmp_path / "q.png", preview(2), NAMES, preview(2))[0]


def test_a_pages_grey_pictures_take_half_the_bytes_and_look_the_same_and_coloured_ones_stay(tmp_path):
    noise = torch.rand(200, 200, generator=torch.Generator().manual_seed(0)).mul(255).byte().numpy()
    Image.fromarray(noise).convert("RGB").save(tmp_path / "grey.png")
    before, after = (tmp_path / "grey.png").read_bytes(), b64decode(embedded(tmp_path / "grey.png").partition(",")[2])
    assert len(after) < 0.6 * len(before)
    shown = np.asarray(Image.open(io.BytesIO(after)).convert("L"), dtype=int)
    assert abs(shown - noise).max() <= 8
    Image.new("RGB", (4, 4), "red").save(tmp_path / "red.png")
    assert b64decode(embedded(tmp_path / "red.png").partition(",")[2]) == (tmp_path / "red.png").read_bytes()


def test_what_the_student_sees_has_a_row_of_its_own(tmp_path):
    (_, height), _ = drawn(tmp_path / "p.png", preview(), NAMES, None)
    white = [torch.ones(preview().means[0].shape)] * 30  # more than there is room for
    (_, with_moved), _ = drawn(tmp_path / "q.png", preview(), NAMES, None, (), white)
    assert with_moved > height


def test_a_preview_as_it_is_shown_takes_one_of_each_class_first():
    images, labels = torch.arange(6).view(6, 1, 1, 1).expand(6, 1, 4, 4) / 10, torch.tensor([0, 0, 0, 1, 1, 2])
    of_three = FixedImages.of(images, labels).preview(4, 8)  # the last class has none
    settings = Training(augmentation=FlipAndCrop(padding=0))
    shown = of_three.as_shown(settings, InputSpec((1, 4, 4), (0.0,), (1.0,)))
    assert [round(float(image.mean()) * 10) for image in shown] == [0, 3, 5, 1, 4, 2]
    assert all(image.unique().numel() == 1 for image in shown)
