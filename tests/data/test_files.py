"""Image files as people have them: decoded as they are seen, or refused in one line with the file's name, and quickly."""

from __future__ import annotations

import os
import time
import tracemalloc

import pytest
from PIL import Image

from dfkd_exp.data import ImageFolder, Mnist
from dfkd_exp.data.celeba import read_attributes
from dfkd_exp.data.files import MOST_PIXELS, read_image, readable, to_tensor
from dfkd_exp.data.idx import LARGEST_FILE
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import open_regular
from tests.data.odd_images import REFUSED, RIGHT, ZIPPED

SECONDS = 3


@pytest.mark.parametrize("kind", RIGHT)
def test_an_image_is_what_is_seen(kind, tmp_path):
    ending, write, (left, right) = RIGHT[kind]
    write(tmp_path / f"odd.{ending}")
    pixels = read_image(
        "odd", lambda: open_regular(tmp_path / f"odd.{ending}"), lambda image: to_tensor(image, 1, None)
    )
    assert pixels.shape == (1, 4, 4)
    assert pixels[0, 0, [0, -1]].tolist() == pytest.approx([left, right], abs=1)


@pytest.mark.parametrize("kind", REFUSED)
def test_an_image_that_is_not_to_be_had_is_refused_by_name_and_quickly(kind, tmp_path):
    ending, write = REFUSED[kind]
    path = tmp_path / f"odd.{ending}"
    write(path)
    started = time.monotonic()
    with pytest.raises(DfkdError) as refused:
        read_image(str(path), lambda: open_regular(path), lambda image: to_tensor(image, 3, 4))
    assert time.monotonic() - started < SECONDS
    assert str(refused.value).startswith(f"{path} ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["a named pipe", "a link to nowhere"])
def test_a_folder_of_images_with_such_a_file_is_refused(kind, tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for index in range(2):
            Image.new("L", (4, 4)).save(tmp_path / label / f"{index}.png")
    ending, write = REFUSED[kind]
    write(tmp_path / "a" / f"odd.{ending}")
    data = ImageFolder(path=str(tmp_path))
    with pytest.raises(DfkdError, match=r"odd\.png"):
        _ = data.fingerprint(), data.load()


def test_the_decoding_is_part_of_what_identifies_the_images(tmp_path, monkeypatch):
    before = ImageFolder(path=str(tmp_path)).identity()
    monkeypatch.setattr("dfkd_exp.data.decoded.DECODING", 0)
    assert ImageFolder(path=str(tmp_path)).identity() != before


def test_an_image_that_somebody_else_opens_is_refused_by_the_name_that_it_is_given():
    def fails():
        raise SyntaxError("broken PNG file")

    with pytest.raises(DfkdError, match=r"image 3 of set is not a readable image \(SyntaxError: broken PNG file\)"):
        readable("image 3 of set", fails)


def test_an_image_as_large_as_is_allowed_is_read():
    side = int(MOST_PIXELS**0.5)
    assert to_tensor(Image.new("1", (side, 1)), 1, 2).shape == (1, 2, 2)
    with pytest.raises(DfkdError, match="claims to be 8,192x8,193 pixels"):
        to_tensor(Image.new("1", (side, side + 1)), 1, 2)


@pytest.mark.parametrize("kind", ZIPPED)
def test_a_zipped_file_is_refused_before_it_fills_the_memory(kind, tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(ZIPPED[kind]())
    tracemalloc.start()
    with pytest.raises(DfkdError, match=r"train-images-idx3-ubyte\.gz"):
        Mnist(root=str(tmp_path)).load()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * LARGEST_FILE


def test_a_list_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "list_attr_celeba.txt")
    with pytest.raises(DfkdError, match=r"list_attr_celeba\.txt cannot be read"):
        read_attributes(tmp_path / "list_attr_celeba.txt")
