"""Test values in other units than the training values are seen, and no other difference is taken for one."""

import numpy as np
import pytest

from dfkd_exp.data import OwnArrays
from dfkd_exp.data.array_units import other_units
from dfkd_exp.data.array_values import Chosen
from dfkd_exp.errors import DfkdError

DRAWN = np.random.default_rng(0)
PHOTOS = DRAWN.beta(2, 2, (80, 3, 16, 16)).astype("float32")
STROKES = np.where(DRAWN.random((80, 1, 28, 28)) < 0.2, DRAWN.random((80, 1, 28, 28)), 0).astype("float32")
TABLE = DRAWN.lognormal(size=(80, 6)) * [1, 10, 100, 1000, 0.1, 0.01] + [5, 0, 0, 300, 0, 0]
UNITS = {
    "0 to 255": lambda x: 255 * x,
    "bytes of 0 to 1": lambda x: x / 255,
    "-1 to 1": lambda x: 2 * x - 1,
    "normalised": lambda x: (x - x.mean()) / x.std(),
    "Kelvin": lambda x: x + 273,
}


@pytest.mark.parametrize("array", [PHOTOS, STROKES], ids=["photos", "strokes"])
@pytest.mark.parametrize("units", UNITS)
def test_images_in_other_units_are_seen_either_way(array, units):
    train, test = array[:50], array[50:]
    assert other_units(train, UNITS[units](test))
    assert other_units(UNITS[units](train), test)
    assert not other_units(UNITS[units](train), UNITS[units](test))


@pytest.mark.parametrize("num", [1, 5, 30])
def test_however_few_test_examples_there_are_values_that_training_never_has_are_seen(num):
    assert other_units(PHOTOS[:50], 255 * PHOTOS[50 : 50 + num])
    assert not other_units(PHOTOS[:50], PHOTOS[50 : 50 + num])


def test_a_table_of_which_one_part_is_standardised_is_seen():
    def standard(part):
        return (part - TABLE.mean(0)) / TABLE.std(0)

    train, test = TABLE[:50], TABLE[50:]
    assert other_units(standard(train), test)
    assert other_units(train, standard(test))
    assert not other_units(standard(train), standard(test))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [(2, 2), (5, 1), (30, 2), (30, 30), (500, 100)])
@pytest.mark.parametrize("shape", [(1,), (4,), (1, 12)])
def test_parts_of_one_data_set_are_not_told_apart_whatever_its_tails(seed, sizes, shape):
    drawn = np.random.default_rng(seed)
    for values in (drawn.normal, drawn.standard_cauchy, drawn.lognormal, drawn.random):
        assert not other_units(*(values(size=(size, *shape)) for size in sizes))


@pytest.mark.parametrize(
    "changed",
    [
        PHOTOS * 0.4,
        PHOTOS**3,
        1 - PHOTOS,
        np.where(DRAWN.random(PHOTOS.shape) < 0.02, 100, PHOTOS),
        PHOTOS * [[[1]], [[1]], [[0]]],
        np.zeros_like(PHOTOS),
    ],
    ids=["darker", "contrast", "negative", "outliers", "a channel lacks", "black"],
)
def test_images_that_differ_otherwise_are_not_told_apart(changed):
    assert not other_units(PHOTOS[:50], changed[50:])


def test_a_feature_that_drifts_and_one_that_is_rare_do_not_matter():
    drifting = TABLE + np.arange(80)[:, None] * [1, 0, 0, 0, 0, 0]
    drifting[:, 1] = np.arange(80) % 40 == 39
    assert not other_units(drifting[:50], drifting[50:])


def test_of_large_arrays_some_values_are_looked_at_wherever_they_are():
    series = DRAWN.random((3000, 2, 3))
    rows = np.arange(3000)
    assert other_units(Chosen(series, rows[:2000]), Chosen(9 * series, rows[2000:])).startswith(
        "training values of channel "
    )
    assert not other_units(Chosen(series, rows[:2000]), Chosen(series, rows[2000:]))


def test_both_ranges_and_the_way_out_are_said(tmp_path):
    rows = np.arange(80, dtype="float32")[:, None, None].repeat(8, 1).repeat(8, 2) / 79
    parts = {"x_train": rows[:60], "y_train": np.arange(60) % 2, "x_test": 255 * rows[20:], "y_test": np.arange(60) % 2}
    np.savez(tmp_path / "data.npz", **parts)
    with pytest.raises(
        DfkdError, match=r"training values are from 0 to 0.7468, and test values from 64.56 to 255, .*data.range=\[LOW"
    ):
        OwnArrays(path=str(tmp_path / "data.npz")).outline()
    assert OwnArrays(path=str(tmp_path / "data.npz"), range=[0.0, 255.0]).outline()
