"""The loader for the Hugging Face Hub, against an object with the library's interface: the library is optional."""

import sys
import types

import pytest
from PIL import Image

from dfkd_exp.data.hub import Hub
from dfkd_exp.errors import DfkdError


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
