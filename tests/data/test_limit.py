"""``data.limit``: a quick try on a part of any data set, the same one every time, and said wherever figures are."""

import inspect

import pytest
import torch

from dfkd_exp.config.groups import kinds
from dfkd_exp.data import Data, Digits, ImageFolder
from dfkd_exp.data.array_data import ArrayData
from dfkd_exp.data.base import first_in_turn
from dfkd_exp.data.decoded import DecodedData
from dfkd_exp.data.waves import Waves
from dfkd_exp.errors import DfkdError
from dfkd_exp.release.folder import read_release
from tests.data.test_image_folder import fill


@pytest.mark.parametrize("name", sorted(kinds("data")))
def test_no_data_set_evades_the_limit(name):
    """`Data.load` limits what `read` gives, and `DecodedData` and `ArrayData` what they have found."""
    kind = kinds("data")[name]
    owner = next(c for c in inspect.getmro(kind) if "load" in vars(c))
    assert owner in (Data, DecodedData, ArrayData)
    if owner is not Data:
        assert next(c for c in inspect.getmro(kind) if "_found" in vars(c)) is owner


def test_classes_are_taken_in_turn_in_the_order_of_the_data():
    assert first_in_turn([0, 0, 0, 1, 1, 2], 5) == [0, 1, 3, 4, 5]
    assert first_in_turn([2, 2, 2, 0], 3) == [0, 1, 3]
    assert first_in_turn([0, 1], 9) == [0, 1]


def test_a_limited_set_is_balanced_the_same_every_time_and_part_of_the_whole(capsys):
    whole, some, again = Digits().load(), Digits(limit=100).load(), Digits(limit=100).load()
    assert some.train.labels.bincount().tolist() == some.test.labels.bincount().tolist() == [10] * 10
    assert torch.equal(some.train.images, again.train.images)
    first = whole.train.images[whole.train.labels == 3][:10]
    assert torch.equal(some.train.images[some.train.labels == 3], first)
    said = "data.limit=100: 100 of 1,438 train images and 100 of 359 test images; figures are of these alone"
    assert said in capsys.readouterr().out
    assert Digits(limit=100).fingerprint() != Digits().fingerprint()


def test_of_files_only_those_are_decoded_that_are_used(tmp_path):
    fill(tmp_path)
    whole = ImageFolder(path=str(tmp_path), channels=1).load()
    for path in (tmp_path / "cat").iterdir():
        if path.name not in {file.name for file in sorted((tmp_path / "cat").iterdir())[:6]}:
            path.write_bytes(b"not an image")
    settings = ImageFolder(path=str(tmp_path), channels=1, limit=2)
    some = settings.load()
    assert settings.outline().num_images == len(some.train) == len(some.test) == 2
    for label in (0, 1):
        assert torch.equal(some.train.images[label], whole.train.images[whole.train.labels == label][0])


def test_too_few_for_the_classes_is_refused_by_the_flag():
    with pytest.raises(DfkdError, match=r"data.limit must be at least one image for each of the 10 classes.*, got 9"):
        Digits(limit=9).load()
    with pytest.raises(DfkdError, match=r"data.limit must be at least 2"):
        Digits(limit=1)


def test_the_card_the_table_and_the_result_say_so(dfkd, tmp_path):
    ran = dfkd("data.limit=40", "source=data")
    assert ran.result["data_limit"] == 40
    assert ran.result["test_images"] == 40
    assert "data                   limited to 40 training images" in ran.out
    dfkd("data.limit=40", "pipeline=release", "release=made")
    card = (read_release("made").folder / "README.md").read_text()
    assert (
        "| images behind the statistics | 40 (4 in each class); a quick try on a part of the data, data.limit=40 |"
        in card
    )


def test_of_arrays_as_many_are_taken():
    data = Waves(limit=50).load()
    assert data.train.labels.bincount().tolist() == data.test.labels.bincount().tolist() == [10] * 5
    whole = Waves().load()
    assert torch.equal(data.train.images[:10], whole.train.images[:10])
