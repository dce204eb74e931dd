"""Tensors of images: padding, order, balanced choices; the range of values that reaches a network; the digits."""

import pytest
import torch

from dfkd_exp.data import Digits, NoData
from dfkd_exp.data.images import ImageData, LabelledImages, class_balanced
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec


def numbered(labels):
    """Images whose one pixel is their number."""
    labels = torch.tensor(labels)
    return LabelledImages(torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1), labels)


def test_digits_are_the_libraries_in_the_usual_range():
    data = Digits().load()
    assert data.train.images.shape == (1438, 1, 8, 8)
    assert data.test.images.shape == (359, 1, 8, 8)
    assert (data.train.images.min(), data.train.images.max()) == (0, 255)
    assert len(data.train.images.unique()) == 17
    assert (data.train.labels.bincount() + data.test.labels.bincount()).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
    assert Digits(pad=4).load().shape == (1, 16, 16)


def test_no_data_is_refused_with_a_way_out():
    with pytest.raises(DfkdError, match="this needs a data set, and data=none; choose"):
        NoData().load()


def test_ordering_by_class_is_stable_and_keeps_pairs_together():
    batches = list(numbered([1, 0, 1, 0, 2]).by_class(2))
    assert [batch.labels.tolist() for batch in batches] == [[0, 0], [1, 1], [2]]
    assert [batch.images.flatten().tolist() for batch in batches] == [[1, 3], [0, 2], [4]]


def test_numbers_and_masks_select():
    images = numbered([1, 0, 1])
    for index in (torch.tensor([0, 2]), torch.tensor([True, False, True])):
        selected = images.select(index)
        assert (selected.images.flatten().tolist(), selected.labels.tolist()) == ([0, 2], [1, 1])


@pytest.mark.parametrize(("shape", "count"), [((1, 28, 28), 500), ((3, 224, 224), 111), ((3, 5000, 5000), 1)])
def test_large_images_go_through_a_network_in_smaller_batches(shape, count):
    assert InputSpec.normalised(shape, [], []).images_at_once == count


def test_a_balanced_choice_differs_by_at_most_one_and_is_random():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    chosen = [class_balanced(labels, 17, 3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    counts = labels[chosen[0]].bincount()
    assert counts.max() - counts.min() <= 1
    assert len(chosen[0].unique()) == 17
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0].sort().values, chosen[2].sort().values)


def test_a_class_that_runs_out_is_made_up_for_by_the_others():
    labels = torch.tensor([0] * 50 + [1] * 2)
    chosen = class_balanced(labels, 20, 2, torch.Generator().manual_seed(0))
    assert labels[chosen].bincount().tolist() == [18, 2]


def test_images_of_two_sizes_are_no_data_set():
    with pytest.raises(DfkdError, match="give both one size"):
        ImageData(numbered([0]), LabelledImages(torch.zeros(1, 1, 2, 2), torch.zeros(1)), ["a"], 1)


def test_pixels_enter_in_the_unit_range_unless_normalised():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    plain = Digits().inputs((3, 1, 1)).from_pixels(pixels)
    assert plain.flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert plain.dtype == torch.float32
    normalised = Digits(mean=[0.5, 0.2, 0.1], std=[0.5, 0.1, 0.3]).inputs((3, 1, 1)).from_pixels(pixels)
    assert normalised.flatten().tolist() == pytest.approx([-1, 0, 3], abs=1e-6)


def test_inputs_turn_back_into_pixels():
    spec = InputSpec.normalised((3, 4, 4), [0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    pixels = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(spec.to_pixels(spec.from_pixels(pixels)), pixels)
    assert InputSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("wrong", [{"mean": [0.5]}, {"std": [0.5, 0.5]}])
def test_a_normalisation_of_other_channels_is_refused(wrong):
    [name] = wrong
    with pytest.raises(DfkdError, match=rf"data.{name} must be empty or 3 numbers, one per channel"):
        Digits(**wrong).inputs((3, 8, 8))


def test_a_deviation_of_zero_is_refused():
    with pytest.raises(DfkdError, match=r"data.std must be positive"):
        Digits(std=[0.0])
