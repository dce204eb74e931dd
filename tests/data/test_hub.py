"""The loader for the Hugging Face Hub, against an object with the library's interface: the library is optional."""

import copy
import io
import sys
import types

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from dfkd_exp.data.hub import Hub
from dfkd_exp.errors import DfkdError
from tests.data.test_image_folder import fill


class Table:
    """A split: columns by name, and what is known of them."""

    def __init__(self, count, names=("cat", "dog"), size=(5, 4), first_label=0):
        labels = [(first_label + i) % 2 if first_label >= 0 else -1 for i in range(count)]
        self.columns = {"image": [Image.new("RGB", size, (i, 0, 0)) for i in range(count)], "label": labels}
        self.column_names = list(self.columns)
        self.features = {"label": types.SimpleNamespace(names=list(names)) if names else types.SimpleNamespace()}

    def __getitem__(self, key):
        return (
            self.columns[key] if isinstance(key, str) else {name: values[key] for name, values in self.columns.items()}
        )

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def select_columns(self, name):
        only = copy.copy(self)
        only.columns = {name: self.columns[name]}
        return only


class Broken(list):
    """A column of images of which the library cannot decode the second when it is asked for it."""

    def __getitem__(self, key):
        if key == 1:
            raise PIL.UnidentifiedImageError("cannot identify image file")
        return super().__getitem__(key)


@pytest.fixture
def hub(monkeypatch):
    """``hub(splits)``: what the library would load; the calls to it are in ``hub.calls``."""

    def install(splits):
        def load_dataset(name, revision=None):
            install.calls.append((name, revision))
            if isinstance(splits, Exception):
                raise splits
            return splits

        monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))

    install.calls = []
    return install


def test_splits_become_images_and_labels(hub):
    hub({"train": Table(6), "test": Table(4)})
    data = Hub(name="some/set", revision="abc", pad=1).load()
    assert hub.calls == [("some/set", "abc")]
    assert data.shape == (3, 6, 7)
    assert (len(data.train), len(data.test)) == (6, 4)
    assert data.train.images[:, 0, 1, 1].tolist() == list(range(6))
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert data.classes == ["cat", "dog"]
    assert data.bytes_per_image == 60


def test_columns_splits_and_sizes_may_have_other_names(hub):
    table = Table(4)
    table.columns = {"img": table.columns["image"], "fine": table.columns["label"]}
    table.column_names, table.features = list(table.columns), {"fine": table.features["label"]}
    hub({"a": table, "b": table})
    data = Hub(
        name="x", train_split="a", test_split="b", image_column="img", label_column="fine", size=3, channels=1
    ).load()
    assert data.shape == (1, 3, 3)


def test_an_image_that_cannot_be_decoded_is_named(hub):
    broken = Table(6)
    broken.columns["image"] = Broken(broken.columns["image"])
    hub({"train": broken, "test": Table(4)})
    with pytest.raises(
        DfkdError, match="image 1 of some/set, split 'train', is not a readable image; repair or remove it"
    ):
        Hub(name="some/set").load()


def test_other_columns_are_left_as_they_are(hub):
    table = Table(6)
    table.columns["mask"] = Broken(table.columns["image"])
    hub({"train": table, "test": Table(4)})
    assert len(Hub(name="some/set").load().train) == 6


def test_classes_without_names_are_numbered(hub):
    hub({"train": Table(4, names=None), "test": Table(2, names=None)})
    assert Hub(name="x").load().classes == ["0", "1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_split": "validation"}, "x has no split 'validation', only train, test; set data.train_split"),
        ({"image_column": "img"}, "x has no column 'img', only image, label; set data.image_column"),
        ({"label_column": "fine"}, "x has no column 'fine', only image, label"),
    ],
)
def test_a_split_or_column_that_is_not_there_is_refused_with_those_that_are(hub, settings, message):
    hub({"train": Table(4), "test": Table(4)})
    with pytest.raises(DfkdError, match=message):
        Hub(name="x", **settings).load()


def test_images_of_different_sizes_need_a_size(hub):
    mixed = Table(4)
    mixed.columns["image"][2] = Image.new("RGB", (9, 9))
    hub({"train": mixed, "test": Table(4)})
    with pytest.raises(DfkdError, match=r"image 2 of x, split 'train', is 9x9 pixels but .* 5x4; set data.size=N"):
        Hub(name="x").load()
    assert Hub(name="x", size=4).load().shape == (3, 4, 4)


def test_a_split_without_labels_is_refused_if_it_is_asked_for_and_else_passed_over(hub, capsys):
    hub({"train": Table(20), "test": Table(4, first_label=-1)})
    with pytest.raises(DfkdError, match=r"x: split 'test' has images without a label"):
        Hub(name="x", test_split="test").load()
    data = Hub(name="x").load()
    assert (len(data.train), data.test.labels.tolist()) == (16, [0, 1, 0, 1])
    assert "every fifth image of train is held out" in capsys.readouterr().out
    hub({"train": Table(20), "test": Table(4, first_label=-1), "validation": Table(6)})
    assert len(Hub(name="x").load().test) == 6


def test_an_error_of_the_library_is_one_line(hub):
    hub(FileNotFoundError("no such set\nand a long story"))
    with pytest.raises(
        DfkdError, match=r"^data.name=x could not be loaded \(FileNotFoundError: no such set and a long story\);"
    ):
        Hub(name="x").load()


def test_an_error_without_a_message_is_one_line_too(hub):
    hub(ConnectionError())
    with pytest.raises(DfkdError, match=r"data.name=x could not be loaded \(ConnectionError"):
        Hub(name="x").load()


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DfkdError, match=r"pip install 'dfkd_exp\[hub\]'"):
        Hub(name="x").load()


@pytest.mark.parametrize("wrong", [{}, {"name": "x", "channels": 2}, {"name": "x", "size": 0}])
def test_impossible_settings_are_refused_at_once(wrong):
    with pytest.raises(DfkdError, match=r"data.(name|channels|size) must be"):
        Hub(**wrong)


def table(labels, image="image", label="label", names=None, **more):
    """A split with those labels, under other columns' names."""
    made = Table(len(labels))
    made.columns = {image: made.columns["image"], label: labels, **more}
    made.column_names = list(made.columns)
    made.features = {column: types.SimpleNamespace() for column in made.columns}
    if names:
        made.features[label] = ClassLabel(names)
    return made


class ClassLabel:
    """Called as the library's type is."""

    def __init__(self, names):
        self.names = names


@pytest.mark.parametrize(
    ("image", "label"), [("img", "label"), ("Image", "labels"), ("pixel_values", "fine_label"), ("jpg", "cls")]
)
def test_columns_are_found_by_their_usual_names(hub, capsys, image, label):
    other = {"coarse_label": [0, 0, 0, 0]}
    hub({part: table([0, 1, 0, 1], image, label, **other) for part in ("train", "test")})
    assert Hub(name="x").load().train.labels.tolist() == [0, 1, 0, 1]
    assert f"images are in column {image}, labels in {label}" in capsys.readouterr().out


def test_a_column_without_a_usual_name_is_found_by_its_type_or_asked_for(hub):
    hub({part: table([0, 1], label="digit", names=["a", "b"]) for part in ("train", "test")})
    assert Hub(name="x").load().classes == ["a", "b"]
    hub({part: table([0, 1], label="digit") for part in ("train", "test")})
    assert Hub(name="x").load().classes == ["0", "1"]
    hub({part: table([0, 1], label="digit", other=[1, 1]) for part in ("train", "test")})
    with pytest.raises(
        DfkdError, match=r"which of its columns image, digit, other holds the labels\? Say data.label_column=NAME"
    ):
        Hub(name="x").load()
    assert Hub(name="x", label_column="digit").load().classes == ["0", "1"]


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["dog", "cat", "dog"], ["cat", "dog"], [1, 0, 1]),
        (["10", "9", "10"], ["9", "10"], [1, 0, 1]),
        ([2, 1, 3], ["1", "2", "3"], [1, 0, 2]),
        ([0, 2, 2], ["0", "1", "2"], [0, 2, 2]),
        ([1.0, 0.0, 1.0], ["0", "1"], [1, 0, 1]),
        ([True, False, True], ["0", "1"], [1, 0, 1]),
        ([[1], [0], [1]], ["0", "1"], [1, 0, 1]),
    ],
)
def test_labels_of_one_meaning_become_classes(hub, labels, classes, numbers):
    hub({"train": table(labels), "test": table(labels)})
    data = Hub(name="x").load()
    assert (data.classes, data.train.labels.tolist()) == (classes, numbers)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [[0, 1], [1, 1]],
            r"column 'label', has a label of 2 values, \[0, 1\]: images of several classes are not supported",
        ),
        ([[], [1]], "a label of 0 values"),
        ([{"bbox": [1]}, {"bbox": [2]}], "a label of 1 values"),
        ([0.5, 1], "labels are float and int; give words, or whole numbers"),
        (["a", 1], "labels are int and str"),
    ],
)
def test_labels_of_more_than_one_meaning_are_refused_in_one_line(hub, labels, message):
    hub({"train": table(labels), "test": table(labels)})
    with pytest.raises(DfkdError, match=message) as refused:
        Hub(name="x").load()
    assert "\n" not in str(refused.value)


def test_a_label_that_only_the_test_split_has_is_refused(hub):
    hub({"train": table(["a", "b"]), "test": table(["a", "c"])})
    with pytest.raises(DfkdError, match=r"x: split 'test' has the label 'c', which the images to train on have not"):
        Hub(name="x").load()


def test_validation_is_tested_on_where_there_is_no_test_and_a_single_split_is_divided(hub, capsys):
    hub({"train": Table(6), "validation": Table(4)})
    assert len(Hub(name="x").load().test) == 4
    assert "trained on train, figures are of validation" in capsys.readouterr().out
    hub(Table(20))
    data = Hub(name="x").load()
    assert (len(data.train), data.test.labels.tolist()) == (16, [0, 1, 0, 1])
    assert sorted([*data.train.images[:, 0, 0, 0].tolist(), *data.test.images[:, 0, 0, 0].tolist()]) == list(range(20))
    hub({"a": Table(4), "b": Table(4)})
    with pytest.raises(DfkdError, match=r"which of its splits a, b is to train on\? Say data.train_split=NAME"):
        Hub(name="x").load()


def test_images_may_be_bytes_or_pixels(hub):
    file = io.BytesIO()
    Image.new("RGB", (5, 4), (7, 8, 9)).save(file, "png")
    rgb = np.full((4, 5, 3), (7, 8, 9))
    forms = [file.getvalue(), {"bytes": file.getvalue(), "path": None}, rgb, rgb.transpose(2, 0, 1).tolist()]
    made = table([0, 1, 0, 1])
    made.columns["image"] = forms
    hub({"train": made, "test": made})
    images = Hub(name="x").load().train.images
    assert images.shape == (4, 3, 4, 5)
    assert (images == torch.tensor([7, 8, 9], dtype=torch.uint8).view(3, 1, 1)).all()
    for odd in (rgb / 255, list(range(784)), "a word"):
        made.columns["image"][2] = odd
        with pytest.raises(DfkdError, match=r"image 2 of x, split 'train', is "):
            Hub(name="x").load()


def test_a_local_folder_of_images_needs_no_library_and_is_identified_by_its_files(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    fill(tmp_path / "train", classes=("2", "10"))
    fill(tmp_path / "val", classes=("2", "10"), count=3)
    hub = Hub(name=str(tmp_path), channels=1, pad=1)
    data = hub.load()
    assert (data.classes, len(data.train), len(data.test), data.shape) == (["2", "10"], 20, 6, (1, 6, 7))
    before = hub.fingerprint()
    assert Hub(name=str(tmp_path), channels=1, pad=1, limit=4).fingerprint() != before
    assert len(Hub(name=str(tmp_path), channels=1, pad=1, limit=4).load().train) == 4
    fill(tmp_path / "val", classes=("2", "10"), count=4)
    assert Hub(name=str(tmp_path), channels=1, pad=1).fingerprint() != before


def test_a_local_folder_of_tables_is_identified_by_its_files(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"one")
    before = Hub(name=str(tmp_path)).fingerprint()
    (tmp_path / "train.parquet").write_bytes(b"another")
    assert Hub(name=str(tmp_path)).fingerprint() != before


def test_what_the_library_saved_is_loaded_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "dataset_dict.json").write_text("{}")
    loaded = {"train": Table(6), "test": Table(4)}
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_from_disk=lambda name: loaded))
    assert len(Hub(name=str(tmp_path)).load().train) == 6
