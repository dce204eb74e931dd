"""Attention transfer: which layers are compared, and how, against numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from dfkd_exp.distillation.attention import Attention, attention_distance, logits_and_maps
from dfkd_exp.distillation.distill import train_on_teacher
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.resnet import ResNet
from dfkd_exp.training.augmentation import NoAugmentation
from dfkd_exp.training.optimizers import Adam
from dfkd_exp.training.transfer_set import FixedImages
from tests.toy import INPUTS, normalised_teacher, toy_images, toy_teacher

EXAMPLE = INPUTS.example()


def test_the_last_layers_of_each_size_that_both_have_are_compared():
    """The toy teacher has maps of 4 x 4, the other one of 4 x 4 and 2 x 2."""
    compared = Attention.between(toy_teacher(), normalised_teacher(), EXAMPLE)
    assert compared == Attention(("1",), ("2",))


def test_of_a_residual_network_these_are_its_blocks():
    inputs = InputSpec.normalised((3, 16, 16), [], [])
    network = ResNet(inputs.shape, 3, (4, 4, 4, 4))
    compared = Attention.between(network, network, inputs.example())
    assert compared.student == compared.teacher
    maps = logits_and_maps(network.eval(), compared.student, inputs.example())[1:]
    assert [len(one[0]) for one in maps] == [256, 64, 16, 4]
    blocks = [type(network.get_submodule(name)).__name__ for name in compared.student]
    assert blocks == ["Sequential"] * 4


def test_maps_are_sums_of_squares_over_channels_and_their_distance_the_mean_of_squares():
    images = torch.rand(5, *INPUTS.shape, generator=torch.Generator().manual_seed(0))
    seen, networks = [], (toy_teacher(), normalised_teacher())
    for network, name in zip(networks, ("1", "2"), strict=True):
        logits, one = logits_and_maps(network, (name,), images)
        assert torch.equal(logits, network(images))
        values = network[: int(name) + 1](images).detach().double().numpy()
        energy = (values**2).sum(1).reshape(5, 16)
        expected = energy / np.sqrt((energy**2).sum(1, keepdims=True))
        np.testing.assert_allclose(one.detach(), expected, rtol=1e-5)
        seen.append((one, expected))
    (one, expected_one), (other, expected_other) = seen
    expected = ((expected_one - expected_other) ** 2).mean() + (expected_one**2).mean()
    distance = attention_distance([one, one], [other, torch.zeros_like(one)])
    np.testing.assert_allclose(distance.detach(), expected, rtol=1e-5)


def test_a_student_learns_where_its_teacher_looks():
    images, _ = toy_images(20)
    teacher = normalised_teacher(seed=2)

    def distance(attention):
        settings = Distillation(
            epochs=20, batch_size=20, attention=attention, augmentation=NoAugmentation(), optimizer=Adam(lr=0.03)
        )
        student = train_on_teacher(
            toy_teacher(), teacher, FixedImages.of(images), INPUTS, settings, seed=0, label="toy"
        )
        maps = [logits_and_maps(*of, images)[1:] for of in ((student, ("1",)), (teacher, ("2",)))]
        return attention_distance(*maps).item()

    assert distance(attention=250.0) < 0.5 * distance(attention=0.0)


def test_networks_without_maps_of_one_size_are_refused():
    dense = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    with pytest.raises(DfkdError, match=r"distillation\.attention: student and teacher have no layers"):
        Attention.between(dense, toy_teacher(), EXAMPLE)


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"attention": -1.0}, "attention"),
        ({"loss": "l2"}, "loss"),
        ({"targets": "labels", "attention": 1.0}, "attention"),
        ({"targets": "labels", "loss": "l1"}, "loss"),
    ],
)
def test_what_cannot_be_is_refused(settings, flag):
    with pytest.raises(ConfigError, match=rf"distillation\.{flag} must be"):
        Distillation(**settings)
