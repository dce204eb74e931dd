"""``reconstruction.balance=shares``: classes have as large a part of the images as of the training set; and what that changes not."""

import pytest
import torch

from dfkd_exp import AllLayers, reconstruct
from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.batch_norm import BatchNormStatistics
from dfkd_exp.metadata.channels import Channels
from dfkd_exp.reconstruction.problem import shared_turns
from tests.toy import INPUTS, normalised_teacher, toy_images, toy_teacher

KEPT = [20, 5, 40]
"""Images of each toy class that the metadata is of."""


def unequal(kind, teacher):
    pixels, labels = toy_images()
    index = torch.cat([(labels == label).nonzero().squeeze(1)[:count] for label, count in enumerate(KEPT)])
    return kind.collect(teacher, [(pixels[index], labels[index])], INPUTS)


@pytest.mark.parametrize(
    ("counts", "total", "expected"),
    [
        ([1, 1, 1], 6, [2, 2, 2]),
        ([20, 5, 40], 13, [4, 1, 8]),
        ([1000, 1, 1], 6, [4, 1, 1]),
        ([1, 1, 1000], 3, [1, 1, 1]),
        ([3, 3, 4], 10, [3, 3, 4]),
        ([5, 5, 5, 1], 10, [3, 3, 3, 1]),
    ],
)
def test_turns_are_shares_and_at_least_one_each(counts, total, expected):
    assert shared_turns(counts, total).bincount().tolist() == expected


def test_equal_shares_are_the_usual_turns():
    assert torch.equal(shared_turns([7, 7, 7], 12), torch.arange(12) % 3)


def test_any_run_of_turns_is_nearly_balanced():
    turns = shared_turns([10, 30, 60], 100)
    for end in range(10, 101, 10):
        assert (turns[:end].bincount(minlength=3) - torch.tensor([0.1, 0.3, 0.6]) * end).abs().max() <= 1


@pytest.mark.parametrize("kind", [AllLayers(), Channels(scope="all")])
def test_images_of_each_class_follow_the_training_images(kind):
    teacher = toy_teacher()
    metadata = unequal(kind, teacher)
    settings = {"per_class": 26, "group_size": 2, "steps": 1}
    images = reconstruct(teacher, metadata, balance="shares", **settings)
    assert images.labels.bincount().tolist() == [24, 6, 48]
    equal = reconstruct(teacher, metadata, **settings)
    assert equal.labels.bincount().tolist() == [26, 26, 26]


def test_metadata_that_does_not_know_the_counts_is_refused():
    teacher = normalised_teacher()
    metadata = BatchNormStatistics().collect(teacher, [], INPUTS)
    with pytest.raises(
        DfkdError, match=r"reconstruction.balance=shares needs the number of each class's training images"
    ):
        reconstruct(teacher, metadata, per_class=4, group_size=2, steps=1, balance="shares")


def test_it_is_refused_before_anything_is_trained(dfkd):
    ran = dfkd("metadata=batch_norm", "teacher=cnn_bn", "reconstruction.balance=shares")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "BatchNormStatistics does not have; leave it out" in ran.err
    assert not list(ran.outputs.glob("store/teacher/*/manifest.json"))
