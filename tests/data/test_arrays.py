"""Data sets of arrays: the forms that people keep them in are understood, or refused in a line that says where and what to do."""

import re

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from dfkd_exp.data import OwnArrays, Waves, Wine
from dfkd_exp.data.array_layouts import guessed_layout
from dfkd_exp.data.array_roles import role_of
from dfkd_exp.errors import ConfigError, DfkdError

DRAWN = np.random.default_rng(0)
Y = np.arange(60) % 3
TABLE = DRAWN.normal(size=(60, 4)) * [1, 10, 100, 1000] + Y[:, None]
BYTES = DRAWN.integers(0, 256, (60, 8, 8), dtype=np.uint8)


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return str(tmp_path / "data.npz")


def loaded(path, **settings):
    """The data set, and what enters a network of its training inputs."""
    given = OwnArrays(path=str(path), **settings)
    data = given.load()
    return data, given.inputs(data.shape).from_pixels(data.train.images)


def refused(path, *words, **settings):
    with pytest.raises(DfkdError) as error:
        loaded(path, **settings)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_images_as_medmnist_lays_them_out(tmp_path, capsys):
    whole = np.stack([BYTES, BYTES, 255 - BYTES], -1)
    path = saved(
        tmp_path, train_images=whole[:40], val_images=whole[40:50], test_images=whole[50:], train_labels=Y[:40, None].astype("u1"),
        val_labels=Y[40:50, None].astype("u1"), test_labels=Y[50:, None].astype("u1"),
    )  # fmt: skip
    data, inputs = loaded(path)
    assert (data.shape, len(data.train), len(data.test), data.classes) == ((3, 8, 8), 40, 10, ["0", "1", "2"])
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.equal(torch.from_numpy(whole[:40]).permute(0, 3, 1, 2))
    assert inputs.allclose(data.train.images / 255)
    said = capsys.readouterr().out
    assert "layout HWC" in said
    assert "val_images is not used" in said
    assert data.train.labels.tolist() == Y[:40].tolist()


def test_a_network_is_given_the_values_of_a_table_as_they_are(tmp_path):
    data, inputs = loaded(saved(tmp_path, X=TABLE, y=Y, feature_names=np.array(list("abcd"))), test_fraction=0.25)
    assert (data.shape, len(data.test), data.features, data.bytes_per_image) == ((4,), 15, ["a", "b", "c", "d"], 32)
    distances = torch.cdist(inputs.double(), torch.from_numpy(TABLE)).min(1)
    assert distances.values.max() < 1e-3
    assert len(set(distances.indices.tolist())) == 45
    assert 0 <= data.train.images.min() < data.train.images.max() <= 1


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f8", "int16", "int64"])
def test_values_of_any_type_come_back(tmp_path, dtype):
    series = (DRAWN.normal(size=(60, 2, 30)) * 100).astype(dtype)
    data, inputs = loaded(saved(tmp_path, x_train=series, y_train=Y, x_test=series, y_test=Y))
    assert data.shape == (2, 30)
    low, high = series.astype(float).min((0, 2)), series.astype(float).max((0, 2))
    wanted = torch.from_numpy(series.astype(float))
    if "int" in dtype:
        wanted = (wanted - torch.from_numpy(low)[:, None]) / torch.from_numpy(high - low)[:, None]
    assert inputs.double().allclose(wanted, rtol=0, atol=1e-4)


def test_normalisation_is_of_the_values(tmp_path):
    path = saved(tmp_path, x_train=TABLE, y_train=Y, x_test=TABLE, y_test=Y)
    _, standardised = loaded(path, standardise=True)
    assert standardised.mean(0).abs().max() < 1e-4
    assert (standardised.std(0, correction=0) - 1).abs().max() < 1e-4
    _, by_hand = loaded(path, mean=[0.0, 0.0, 0.0, 1.0], std=[1.0, 1.0, 1.0, 1000.0])
    assert by_hand[:, 3].double().allclose(torch.from_numpy((TABLE[:, 3] - 1) / 1000), atol=1e-5)


def test_a_range_that_is_said_is_not_measured(tmp_path):
    path = saved(tmp_path, x_train=TABLE, y_train=Y, x_test=TABLE, y_test=Y)
    said, measured = OwnArrays(path=path, range=[-5000.0, 5000.0]), OwnArrays(path=path)
    assert (said.measured, measured.measured) == (False, True)
    assert said.inputs((4,)).low == (-5000.0,) * 4
    assert measured.inputs((4,)).high == tuple(TABLE.max(0))


@pytest.mark.parametrize(
    "labels", [Y[:, None], np.eye(3)[Y], Y.astype(float), Y.astype("u1"), np.eye(3, dtype=bool)[Y]], ids=str
)
def test_labels_in_other_forms_are_the_same_classes(tmp_path, labels):
    data, _ = loaded(saved(tmp_path, x_train=TABLE, y_train=labels, x_test=TABLE, y_test=labels))
    assert data.train.labels.tolist() == Y.tolist()


def test_words_and_gaps_become_classes_in_an_order_that_is_said(tmp_path, capsys):
    words = np.array(["pear", "apple", "fig"])[Y]
    data, _ = loaded(saved(tmp_path, x_train=TABLE, y_train=words, x_test=TABLE, y_test=words))
    assert (data.classes, data.train.labels[:3].tolist()) == (["apple", "fig", "pear"], [2, 0, 1])
    data, _ = loaded(tmp_path / "data.npz", classes=["pear", "apple", "fig"])
    assert (data.classes, data.train.labels[:3].tolist()) == (["pear", "apple", "fig"], [0, 1, 2])
    capsys.readouterr()
    data, _ = loaded(saved(tmp_path, X=TABLE, y=np.array([1, 4, 9])[Y]))
    assert (data.classes, set(data.train.labels.tolist())) == (["1", "4", "9"], {0, 1, 2})
    assert "labels 1, 4, 9 are taken for the classes 0 to 2" in capsys.readouterr().out
    assert loaded(tmp_path / "data.npz", classes=["a", "b", "c"])[0].classes == ["a", "b", "c"]


def test_files_of_other_kinds_and_names(tmp_path):
    np.save(tmp_path / "x.npy", TABLE)
    np.save(tmp_path / "y.npy", Y)
    pair, _ = loaded(tmp_path / "x.npy", labels=str(tmp_path / "y.npy"))
    folder, _ = loaded(tmp_path)
    assert pair.train.images.equal(folder.train.images)
    save_file(
        {"train/inputs": TABLE[:40], "train/labels": Y[:40], "test/inputs": TABLE[40:], "test/labels": Y[40:]},
        tmp_path / "any.bin",
    )
    data, inputs = loaded(tmp_path / "any.bin")
    assert (len(data.train), len(data.test)) == (40, 20)
    assert inputs.double().allclose(torch.from_numpy(TABLE[:40]), atol=1e-3)


def test_the_key_is_of_what_the_files_hold_and_not_of_where_they_lie(tmp_path):
    (tmp_path / "other").mkdir()
    one, two = OwnArrays(path=saved(tmp_path, X=TABLE, y=Y)), OwnArrays(path=saved(tmp_path / "other", X=TABLE, y=Y))
    assert one.fingerprint() == two.fingerprint()
    assert one.fingerprint() != OwnArrays(path=saved(tmp_path / "other", X=TABLE + 1, y=Y)).fingerprint()


def test_what_takes_long_to_convert_is_kept_in_files_with_the_same_values(tmp_path, monkeypatch):
    given = OwnArrays(path=saved(tmp_path, x_train=TABLE, y_train=Y, x_test=TABLE, y_test=Y))
    assert not given.kept_in_store
    monkeypatch.setattr("dfkd_exp.data.array_data.LARGE_BYTES", 100)
    assert given.kept_in_store
    mapped, there = given.load(tmp_path), given.load()
    assert mapped.train.images.equal(there.train.images)
    assert mapped.test.labels.equal(there.test.labels)


NAN = TABLE.copy()
NAN[17, 3] = np.nan


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": NAN, "y": Y, "columns": np.array(list("abcd"))}, ["X[17, 3]", "column d", "1 of 60 examples"]),
        ({"X": TABLE, "y": np.where(Y == 1, np.nan, Y)}, ["y[1] is nan", "missing"]),
        ({"X": TABLE, "y": np.array(["a", None] * 30, dtype=object)}, ["holds Python objects", "never read"]),
        ({"X": TABLE, "y": DRAWN.random(60)}, ["regression"]),
        ({"X": TABLE, "y": np.arange(60)}, ["60 different ones"]),
        ({"X": TABLE, "y": np.ones(60, int)}, ["at least two classes"]),
        ({"X": TABLE, "y": np.ones((60, 14), int)}, ["multi-label"]),
        ({"X": TABLE, "y": Y[:-1]}, ["60 examples", "59"]),
        ({"x_train": TABLE, "y_train": Y, "x_test": TABLE}, ["x_test has no labels"]),
        ({"x_train": TABLE, "y_train": Y, "x_test": TABLE, "y_test": Y + 1}, ["y_test[2] is 3", "without training examples"]),
        ({"x_train": TABLE, "train_images": TABLE, "y_train": Y}, ["x_train", "train_images", "leave one"]),
        ({"x_train": TABLE, "y_train": Y, "x_test": TABLE[:, :3], "y_test": Y}, ["[4]", "[3]"]),
        ({"x_train": TABLE.astype("uint8"), "y_train": Y, "x_test": TABLE, "y_test": Y}, ["uint8", "float", "data.range"]),
        ({"x_train": TABLE, "y_train": Y, "x_test": TABLE.astype("uint8"), "y_test": Y}, ["uint8", "float", "data.range"]),
        ({"arr_0": TABLE, "arr_1": Y}, ["no array that is called as inputs are", "arr_0 [60, 4]"]),
        ({"X": TABLE.astype(complex), "y": Y}, ["complex128"]),
        ({"X": np.zeros((60, 3, 9, 3)), "y": Y}, ["data.layout"]),
        ({"X": TABLE * 1e6, "y": Y}, ["data.standardise=true"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_a_line(tmp_path, arrays, words):
    refused(saved(tmp_path, **arrays), *words)


def test_files_that_cannot_be_read_are_refused_in_a_line(tmp_path):
    path = saved(tmp_path, X=TABLE, y=Y)
    whole = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(whole[:900])
    refused(path, "damaged or incomplete")
    np.save(tmp_path / "x.npy", TABLE)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:900])
    refused(tmp_path / "x.npy", "damaged or incomplete", labels=str(tmp_path / "x.npy"))
    torch.save({"x": torch.zeros(3)}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "torch.save", "np.savez")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    refused(tmp_path / "x.csv", "is a text")
    refused(tmp_path / "nope", "data.path", "is not there")
    np.save(tmp_path / "x.npy", TABLE)
    refused(tmp_path / "x.npy", "data.labels")


@pytest.mark.parametrize(
    "wrong", [{"range": [1.0]}, {"range": [1.0, 0.0]}, {"layout": "WH"}, {"classes": ["a", "a"]}, {"test_fraction": 1}]
)
def test_settings_that_cannot_be_are_refused_before_a_file_is_opened(wrong):
    with pytest.raises(ConfigError, match=re.escape(next(iter(wrong)))):
        OwnArrays(path="anything", **wrong)


@pytest.mark.parametrize(
    ("shape", "is_bytes", "layout"),
    [
        ((12,), False, "F"), ((28, 28), True, "HW"), ((1, 400), False, "CL"), ((128, 9), False, "LC"), ((32, 128), True, "HW"),
        ((3, 32, 32), True, "CHW"), ((32, 32, 3), True, "HWC"), ((64, 64, 13), False, "HWC"), ((28, 28, 28), True, "DHW"),
        ((3, 9, 3), False, None), ((1, 28, 28, 28), True, "CDHW"), ((28, 28, 28, 3), True, "DHWC"), ((8, 8, 8, 8), False, None),
    ],
)  # fmt: skip
def test_which_axis_is_which_is_guessed(shape, is_bytes, layout):
    assert guessed_layout(shape, is_bytes) == layout


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("train_images", ("inputs", "train")), ("x_test", ("inputs", "test")), ("X", ("inputs", "")), ("yTrain", ("labels", "train")),
        ("val_labels", ("labels", "val")), ("testing/targets", ("labels", "test")), ("xtrain", ("inputs", "train")),
        ("target_names", ("class_names", "")), ("feature_names", ("feature_names", "")), ("ids", ("", "")),
        ("X_val", ("inputs", "val")), ("eval_images", ("inputs", "val")), ("y_te", ("labels", "test")),
    ],
)  # fmt: skip
def test_arrays_are_known_by_the_names_that_people_give_them(name, role):
    assert role_of(name) == role


@pytest.mark.parametrize(
    ("kind", "shape", "sizes", "classes"), [(Wine, (13,), (143, 35), 3), (Waves, (1, 128), (1000, 500), 5)]
)
def test_the_examples_that_come_along(kind, shape, sizes, classes):
    one, two = kind().load(), kind().load()
    assert (one.shape, (len(one.train), len(one.test)), len(one.classes)) == (shape, sizes, classes)
    assert one.train.images.equal(two.train.images)
    assert len(one.features) == (13 if kind is Wine else 0)


def test_of_arrays_that_are_mapped_a_share_is_held_out_without_reading_them(tmp_path):
    images = np.random.default_rng(0).random((40, 3, 8, 8), dtype=np.float32)
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", np.arange(40) % 4)
    settings = {"path": str(tmp_path / "x.npy"), "labels": str(tmp_path / "y.npy"), "layout": "CHW", "range": [0, 1]}
    data = OwnArrays(**settings)
    parts = data.find().inputs
    assert {name: part.shape for name, part in parts.items()} == {"train": (32, 3, 8, 8), "test": (8, 3, 8, 8)}
    assert not any(isinstance(part, np.ndarray) for part in parts.values()), "each is some rows of the file"
    loaded = data.load()
    together = torch.cat([loaded.train.images, loaded.test.images]).sum((1, 2, 3)).sort().values
    torch.testing.assert_close(together, torch.from_numpy(images).sum((1, 2, 3)).sort().values)
    assert len(OwnArrays(**settings, limit=12).load().train) == 12


def test_bytes_of_which_a_share_is_held_out_are_kept_as_bytes_where_they_are_many(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "all.npz", x=images, y=np.arange(40) % 4)
    data = OwnArrays(path=str(tmp_path / "all.npz"), layout="CHW")
    assert not data.kept_in_store
    whole = data.load()
    monkeypatch.setattr("dfkd_exp.data.array_data.LARGE_BYTES", 1000)
    assert data.kept_in_store
    mapped = data.load(tmp_path)
    for one, other in ((whole.train, mapped.train), (whole.test, mapped.test)):
        assert other.images.dtype == torch.uint8
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
