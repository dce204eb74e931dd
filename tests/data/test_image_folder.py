"""Somebody's own images, in every way that they come."""

import numpy as np
import pytest
import torch
from PIL import Image

from dfkd_exp.data.files import to_tensor
from dfkd_exp.data.image_folder import ImageFolder
from dfkd_exp.errors import DfkdError


def picture(value, mode="L", size=(5, 4)):
    """One colour everywhere; width 5, height 4."""
    return Image.new(mode, size, value)


def fill(root, classes=("cat", "dog"), count=10, make=lambda label, index: picture(10 * label + index), ending="png"):
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            make(label, index).save(root / name / f"{index:02d}.{ending}")
    return root


def load(root, **settings):
    return ImageFolder(path=str(root), **settings).load()


def test_grey_images(tmp_path):
    data = load(fill(tmp_path), channels=1)
    assert data.shape == (1, 4, 5)
    assert data.classes == ["cat", "dog"]
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.train.images.dtype == torch.uint8
    for part in (data.train, data.test):
        assert (part.images[:, 0, 0, 0] // 10 == part.labels).all()
    assert data.bytes_per_image == 20


def test_colours_keep_their_channels(tmp_path):
    data = load(fill(tmp_path, make=lambda label, _: picture((10 + label, 20, 30), "RGB")), channels=3)
    assert data.shape == (3, 4, 5)
    assert data.train.images[data.train.labels == 1][0, :, 0, 0].tolist() == [11, 20, 30]


@pytest.mark.parametrize(
    ("mode", "value", "grey"),
    [
        ("L", 100, 100),
        ("RGB", (100,) * 3, 100),
        ("RGBA", (100, 100, 100, 255), 100),
        ("1", 1, 255),
        ("I;16", 100 * 257, 100),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_grey_or_colour(mode, value, grey, channels):
    pixels = to_tensor(picture(value, mode), channels, None)
    assert pixels.shape == (channels, 4, 5)
    assert pixels.unique().tolist() == [grey]


def test_palettes_become_their_colours():
    image = picture((200, 100, 50), "RGB").quantize(4)
    assert image.mode == "P"
    assert to_tensor(image, 3, None)[:, 0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_mode_whose_range_nobody_knows_is_refused(tmp_path, mode):
    fill(tmp_path, make=lambda *_: picture(70_000, mode), ending="tif")
    with pytest.raises(DfkdError, match=rf"00.tif .*mode {mode}.*8 bits"):
        load(tmp_path)


def test_resizing_gives_squares(tmp_path):
    data = load(fill(tmp_path), channels=1, size=8)
    assert data.shape == (1, 8, 8)
    assert data.bytes_per_image == 64


def test_padding_comes_last(tmp_path):
    data = load(fill(tmp_path), channels=1, size=8, pad=2)
    assert data.shape == (1, 12, 12)
    assert data.bytes_per_image == 64


def test_train_and_test_folders_are_kept_apart(tmp_path):
    fill(tmp_path / "train", count=4, make=lambda *_: picture(1))
    fill(tmp_path / "test", count=3, make=lambda *_: picture(2))
    data = load(tmp_path, channels=1)
    assert (len(data.train), len(data.test)) == (8, 6)
    assert (data.train.images == 1).all()
    assert (data.test.images == 2).all()


def test_classes_that_only_the_test_folder_has_are_refused(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("cat", "dog", "emu"))
    with pytest.raises(DfkdError, match="emu"):
        load(tmp_path)


def test_an_image_keeps_its_side_when_others_are_added(tmp_path):
    before = ImageFolder(path=str(fill(tmp_path)))._split.test
    fill(tmp_path, classes=("emu", "fox"))
    assert set(ImageFolder(path=str(tmp_path))._split.test) > set(before)


def test_files_that_are_no_images_and_hidden_folders_are_passed_over(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    data = load(tmp_path)
    assert (data.classes, len(data.train) + len(data.test)) == (["cat", "dog"], 20)


def test_images_of_kinds_that_are_not_read_are_counted_in_a_warning(tmp_path, capsys):
    fill(tmp_path)
    for name in ("cat/1.HEIC", "cat/2.heic", "dog/raw/1.cr2", "logo.svg", "cat/readme.txt", "dog/notes.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    data = load(tmp_path)
    assert (data.classes, len(data.train) + len(data.test)) == (["cat", "dog"], 20)
    assert capsys.readouterr().err == (
        f"warning: data.path={tmp_path}: 2 .heic, 1 .cr2 among its images are of kinds that are not read, and are left out: convert them "
        f"to PNG or JPEG ({tmp_path}/cat/1.HEIC)\n"
    )


def test_a_table_may_name_images_of_kinds_that_are_not_read(tmp_path, capsys):
    fill(tmp_path, classes=("images",))
    (tmp_path / "images" / "10.avif").touch()
    (tmp_path / "labels.csv").write_text("".join(f"{index:02d},{index % 2}\n" for index in range(11)))
    assert len(load(tmp_path, labels="labels.csv").train) == 8
    assert "1 .avif among its images are of kinds that are not read" in capsys.readouterr().err


def test_images_in_folders_of_a_class_belong_to_it(tmp_path):
    fill(tmp_path, count=2)
    fill(tmp_path / "cat", classes=("indoors",), count=3)
    data = load(tmp_path)
    assert (len(data.train) + len(data.test), len(data.classes)) == (7, 2)


def test_a_class_of_several_folders_of_its_own_is_told_and_a_table_makes_them_classes(tmp_path, capsys):
    for folder, name in (("animals", "cat"), ("animals", "dog"), ("vehicles", "car")):
        fill(tmp_path / folder, classes=(name,))
    assert load(tmp_path).classes == ["animals", "vehicles"]
    assert f"data.path={tmp_path}: animals has cat, dog: taken as one class; " in capsys.readouterr().out
    files = sorted(tmp_path.rglob("*.png"))
    rows = "".join(f"{file.relative_to(tmp_path)},{file.parent.name}\n" for file in files)
    (tmp_path / "FILE.csv").write_text(rows)
    assert load(tmp_path, labels="FILE.csv").classes == ["car", "cat", "dog"]


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_an_unreadable_image_is_named(tmp_path, content):
    fill(tmp_path)
    path = tmp_path / "dog" / "03.png"
    path.write_bytes(path.read_bytes()[:50] if content is None else content)
    with pytest.raises(DfkdError, match=r"dog.03.png is not a readable image"):
        load(tmp_path)


def test_all_unreadable_images_are_named_at_once(tmp_path, monkeypatch):
    fill(tmp_path)
    for name in ("01", "03", "05"):
        (tmp_path / "dog" / f"{name}.png").write_bytes(b"not a picture")
    with pytest.raises(DfkdError, match=r"^3 images cannot be used:") as raised:
        load(tmp_path)
    for name in ("01", "03", "05"):
        assert f"{name}.png is not a readable image; repair or remove it" in str(raised.value)
    monkeypatch.setattr("dfkd_exp.data.decoded.MOST_FAULTS", 2)
    with pytest.raises(DfkdError, match=r"^at least 2 images cannot be used"):
        load(tmp_path)


def test_images_of_different_sizes_need_a_size(tmp_path):
    fill(tmp_path)
    picture(0, size=(7, 6)).save(tmp_path / "dog" / "03.png")
    with pytest.raises(DfkdError, match=r"03.png is 7x6 pixels but the first image is 5x4; set data.size=N"):
        load(tmp_path)
    assert load(tmp_path, size=6).shape == (3, 6, 6)


def test_training_and_test_images_of_different_sizes_are_refused(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", make=lambda *_: picture(0, size=(7, 6)))
    with pytest.raises(DfkdError, match=r"training examples are of shape \[3, 4, 5\] but test examples of \[3, 6, 7\]"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("classes", "count", "message"),
    [
        ((), 0, "at least two; it has 0"),
        (("cat",), 5, "at least two; it has 1"),
        (("cat", "dog"), 0, "cat holds no images"),
        (("cat", "dog"), 1, "cat holds 1 image, of which 1 would be tested on; a class needs one more, to train on"),
    ],
)
def test_too_little_is_refused(tmp_path, classes, count, message):
    with pytest.raises(DfkdError, match=message):
        load(fill(tmp_path, classes, count))


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DfkdError, match=r"data.path=.*nowhere is not a folder"):
        load(tmp_path / "nowhere")


def test_the_fingerprint_is_that_of_the_files_not_of_their_place(tmp_path):
    fill(tmp_path / "here")
    first = ImageFolder(path=str(tmp_path / "here")).fingerprint()
    (tmp_path / "here").rename(tmp_path / "there")
    assert ImageFolder(path=str(tmp_path / "there")).fingerprint() == first
    picture(99, size=(50, 40)).save(tmp_path / "there" / "cat" / "00.png")
    assert ImageFolder(path=str(tmp_path / "there")).fingerprint() != first


def test_height_and_width_are_not_swapped():
    pixels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    assert to_tensor(Image.fromarray(pixels), 1, None)[0].tolist() == pixels.tolist()


def test_a_table_of_labels_makes_classes_of_a_flat_folder(tmp_path):
    fill(tmp_path, classes=("images",))
    rows = "".join(f"{index:02d},{index % 2 + 9}\n" for index in range(10))
    (tmp_path / "labels.csv").write_text(f"id,label\n{rows}")
    data = load(tmp_path, labels="labels.csv", channels=1)
    assert data.classes == ["9", "10"]
    assert (len(data.train), len(data.test)) == (8, 2)
    for part in (data.train, data.test):
        assert (part.images[:, 0, 0, 0] % 2 == part.labels).all()
    swapped = load(tmp_path, labels="labels.csv", channels=1, classes=[10, 9])
    assert torch.equal(swapped.train.labels.bincount(), data.train.labels.bincount())
    assert (swapped.train.images[:, 0, 0, 0] % 2 == 1 - swapped.train.labels).all()


@pytest.mark.parametrize("place", ["images/labels.csv", "images/.labels.csv", "labels.csv"])
def test_a_table_is_found_among_the_images_and_by_its_path(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, classes=("images",))
    (tmp_path / place).write_text("".join(f"{index:02d},{index % 2}\n" for index in range(10)))
    for labels in (place, place.removeprefix("images/"), str(tmp_path / place)):
        assert load("images", labels=labels).classes == ["0", "1"]


def test_what_makes_other_labels_of_the_same_files_is_in_the_fingerprint(tmp_path):
    fill(tmp_path, classes=("images",))
    table = tmp_path / "labels.csv"
    prints = []
    for text in ("cat", "dog"), ("dog", "cat"):
        table.write_text("".join(f"{index:02d},{text[index % 2]}\n" for index in range(10)))
        prints.append(ImageFolder(path=str(tmp_path), labels="labels.csv").fingerprint())
    prints.append(ImageFolder(path=str(tmp_path), labels="labels.csv", classes=["dog", "cat"]).fingerprint())
    assert prints[0] != prints[1] != prints[2] != prints[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "missing.csv"}, r"data.labels=missing.csv: it is neither in .* nor a file"),
        ({"labels": "kinds.csv"}, r"nor a file; check its name \(did you mean kind.csv\?\)"),
        ({"labels": "kind.json"}, r"data.labels must be a table \(.csv, .tsv, .txt\): convert it, .* got 'kind.json'"),
        ({"labels": "/nowhere/meta.JSONL"}, r"data.labels must be a table \(.csv, .tsv, .txt\): convert it"),
        ({"classes": ["cat"]}, "data.classes must be two names or more"),
        ({"classes": ["cat", "cat"]}, "data.classes must be two names or more, none of them twice"),
        ({"classes": ["cat", "emu"]}, "data.classes: .* has no class 'emu', only cat, dog"),
    ],
)
def test_a_table_or_classes_that_cannot_be_are_refused_by_their_flag(tmp_path, settings, message):
    for name in ("kind.csv", "kind.json"):
        (tmp_path / name).write_text("00,cat\n")
    with pytest.raises(DfkdError, match=message):
        load(fill(tmp_path), **settings)


def test_the_middle_square_of_a_photograph_is_taken_if_that_is_asked(tmp_path):
    """Of the right share of its shorter side, and not stretched; its key is of before where it is not asked."""
    wide = np.zeros((20, 60), np.uint8)
    wide[2:18, 22:38] = 255  # the middle 16 x 16
    for name in ("a/1", "a/2", "b/1", "b/2"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(wide).save(path)
    settings = {"path": str(tmp_path / "photos"), "size": 8, "channels": 1}
    cut, whole = ImageFolder(crop=0.8, **settings), ImageFolder(**settings)
    assert (cut.find()[1]["train"].read(0) == 255).all()
    assert not (whole.find()[1]["train"].read(0) == 255).all()
    assert "crop" not in whole.fingerprint()
    assert cut.fingerprint()["crop"] == 0.8
