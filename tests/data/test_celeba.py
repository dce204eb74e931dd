"""CelebA's layout, lists and crop; what is refused."""

import pytest
import torch
from PIL import Image

from dfkd_exp.data.celeba import CelebA
from dfkd_exp.errors import DfkdError
from tests.celeba import TEST, TRAIN, VALID, attributes_of, make_celeba


@pytest.fixture
def root(tmp_path):
    return make_celeba(tmp_path / "celeba")


def celeba(root, **settings):
    return CelebA(root=str(root), **{"size": 8, **settings})


def numbers(part):
    """Of the faces, which the blue of their pixels tells, nearly."""
    return part.images[:, 2].float().mean((1, 2))


def test_training_and_test_part_are_the_official_ones_without_the_validation_part(root):
    data = celeba(root).load()
    assert data.shape == (3, 8, 8)
    assert data.train.images.dtype == torch.uint8
    torch.testing.assert_close(numbers(data.train), torch.arange(TRAIN).float(), atol=3, rtol=0)
    torch.testing.assert_close(
        numbers(data.test), torch.arange(TRAIN + VALID, TRAIN + VALID + TEST).float(), atol=3, rtol=0
    )
    assert data.bytes_per_image == 3 * 8 * 8


def test_the_most_balanced_attribute_makes_the_classes(root, capsys):
    data = celeba(root).load()
    assert data.classes == ["not Smiling", "Smiling"]
    assert data.train.labels.tolist() == [attributes_of(number)[1] for number in range(TRAIN)]
    assert "attribute Smiling: 50.0% of the training part have it" in capsys.readouterr().out


def test_the_balance_is_that_of_the_training_part_alone(root):
    path = root / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    # Half of all are bald, but of the training part nearly all.
    bald = ["1" if number < 24 else "-1" for number in range(TRAIN + VALID + TEST)]
    rows = [
        f"{file} {flag} -1 {young}" for (file, _, _, young), flag in zip(map(str.split, lines[2:]), bald, strict=True)
    ]
    path.write_text("\n".join([*lines[:2], *rows]))
    assert celeba(root).load().classes[1] == "Young"


def test_any_attribute_can_be_named(root):
    data = celeba(root, attribute="Bald").load()
    assert data.classes == ["not Bald", "Bald"]
    assert data.train.labels.nonzero().flatten().tolist() == [0, 10, 20]


def test_the_crop_is_the_square_in_the_middle(root):
    whole = celeba(root, size=178).load().train.images
    assert whole.shape == (TRAIN, 3, 178, 178)
    assert (whole[:, 0] < 30).all(), "the stripes above and below it are red"


def test_resizing_is_smooth(root):
    stripes = Image.new("RGB", (178, 218))
    for column in range(0, 178, 2):
        stripes.paste((255, 255, 255), (column, 0, column + 1, 218))
    stripes.save(root / "img_align_celeba" / "000001.jpg", quality=95, subsampling=0)
    small = celeba(root, size=32).load().train.images[0].float()
    assert small.std() < 20, "without antialiasing, columns would be black or white"


def test_padding_and_a_limit(root):
    data = celeba(root, pad=2, max_images=7).load()
    assert data.shape == (3, 12, 12)
    assert data.bytes_per_image == 3 * 8 * 8
    assert (len(data.train), len(data.test)) == (7, TEST)
    assert (data.train.images[:, :, :2] == 0).all()


def test_the_folders_of_the_official_archive_are_found(root):
    for folder, name in (
        ("Img", "img_align_celeba"),
        ("Anno", "list_attr_celeba.txt"),
        ("Eval", "list_eval_partition.txt"),
    ):
        (root / folder).mkdir()
        (root / name).rename(root / folder / name)
    assert len(celeba(root).load().train) == TRAIN


def test_the_folder_is_the_one_below_the_data_directory_unless_named(root, monkeypatch):
    monkeypatch.setenv("DFKD_DATA_DIR", str(root.parent))
    assert len(CelebA(size=8).load().train) == TRAIN


def test_the_fingerprint_is_that_of_the_files_not_of_their_place(root):
    first = celeba(root).fingerprint()
    assert first["attribute"] == "Smiling"
    assert celeba(root, attribute="Smiling").fingerprint() == first
    assert celeba(root.rename(root.with_name("there"))).fingerprint() == first
    there = root.with_name("there")
    assert celeba(there, attribute="Young").fingerprint() != first
    assert celeba(there, max_images=20).fingerprint() != first
    Image.new("RGB", (178, 218), (9, 9, 9)).save(there / "img_align_celeba" / "000003.jpg")
    assert celeba(there).fingerprint() != first


def test_an_attribute_that_there_is_not_is_refused_with_the_closest(root):
    with pytest.raises(
        DfkdError, match=r"data.attribute must be one of most_balanced, Bald, .* \(did you mean Smiling\?\)"
    ):
        celeba(root, attribute="Smilling").load()


@pytest.mark.parametrize("name", ["img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"])
def test_what_is_not_there_is_named_with_where_to_get_it(root, name):
    (root / name).rename(root / "elsewhere")
    with pytest.raises(
        DfkdError, match=rf"has no {name}; get CelebA from https://mmlab\S+ \(there is no automatic download\)"
    ):
        celeba(root).load()


@pytest.mark.parametrize("settings", [{}, {"root": "nowhere"}])
def test_a_folder_that_does_not_exist_is_refused(settings, monkeypatch):
    monkeypatch.delenv("DFKD_DATA_DIR", raising=False)
    with pytest.raises(DfkdError, match=r"is not a folder; get CelebA from .* and set data.root"):
        CelebA(**settings).fingerprint()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("list_attr_celeba.txt", lambda lines: [], "lists 0 images but says nothing"),
        ("list_attr_celeba.txt", lambda lines: lines[:-1], "lists 47 images but says 48"),
        ("list_attr_celeba.txt", lambda lines: lines[1:], "line 3, is not a file and 4 times 1 or -1"),
        ("list_attr_celeba.txt", lambda lines: [*lines[:4], lines[4][:-2], *lines[5:]], "line 5, is not a file and 3 times"),
        ("list_attr_celeba.txt", lambda lines: [*lines[:-1], lines[-2]], "lists 47 images but says 48"),
        ("list_attr_celeba.txt", lambda lines: [line.replace("-1", "0") for line in lines], "3 times 1 or -1; download"),
        ("list_eval_partition.txt", lambda lines: ["<html>", *lines], "line 1, is not a file and 0, 1 or 2; download"),
        ("list_eval_partition.txt", lambda lines: lines[:-1], r"000048.jpg stands in only one of list_attr"),
        ("list_eval_partition.txt", lambda lines: [f"{line[:-1]}0" for line in lines], "no training or no test images"),
    ],
)  # fmt: skip
def test_a_malformed_list_is_refused(root, name, change, message):
    path = root / name
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(DfkdError, match=message):
        celeba(root).load()


def test_listed_images_that_are_missing_are_counted(root):
    for number in (4, 7):
        (root / "img_align_celeba" / f"{number:06d}.jpg").unlink()
    (root / "img_align_celeba" / f"{TRAIN + 1:06d}.jpg").unlink()  # the validation part is not needed
    with pytest.raises(DfkdError, match=r"lacks 2 of 42 listed images, the first of them 000004.jpg; unpack"):
        celeba(root).fingerprint()


def test_an_image_that_cannot_be_read_is_named(root):
    path = root / "img_align_celeba" / "000005.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DfkdError, match=r"000005.jpg is not a readable image"):
        celeba(root).load()


def test_an_image_of_another_size_is_named(root):
    Image.new("RGB", (100, 90)).save(root / "img_align_celeba" / "000005.jpg")
    with pytest.raises(DfkdError, match=r"000005.jpg is 100x90 pixels; CelebA's aligned images"):
        celeba(root).load()


def test_training_images_of_one_class_are_refused(root):
    path = root / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace("000001.jpg  1", "000001.jpg -1"))
    with pytest.raises(DfkdError, match=r"all 5 training images are of one class of Bald; change data.attribute or"):
        celeba(root, attribute="Bald", max_images=5).fingerprint()


@pytest.mark.parametrize("wrong", [{"size": 0}, {"max_images": 1}])
def test_impossible_settings_are_refused_at_once(wrong):
    [name] = wrong
    with pytest.raises(DfkdError, match=rf"data.{name} must be (at least|from 1)"):
        CelebA(**wrong)
