"""How made images vary beside real ones: of images whose variation is known."""

import pytest
import torch
from torch import nn

from dfkd_exp.data.images import LabelledImages
from dfkd_exp.evaluation.likeness import FEWEST, likeness
from dfkd_exp.inputs import InputSpec
from tests.toy import frozen

INPUTS = InputSpec((1, 8, 8), (0.0,), (1.0,))


def teacher():
    """A convolution that hands on what it gets, and a dense layer."""
    first = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(first.weight)
    return frozen(nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 2)))


def images(brightness, contrast, count=400):
    """Two classes, that differ in their brightness by far more than their images do; deviations of images' means and log-contrasts."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    noise = torch.randn(count, 1, 8, 8, generator=generator)
    noise = noise - noise.mean((2, 3), keepdim=True)
    noise = noise / noise.std((1, 2, 3), keepdim=True)
    mean, log = torch.randn(2, count, 1, 1, 1, generator=generator)
    return LabelledImages(
        0.3 + 0.3 * labels.view(-1, 1, 1, 1) + brightness * mean + noise * 0.05 * (contrast * log).exp(), labels
    )


def test_images_that_vary_alike_are_alike():
    for layer in likeness(teacher(), images(0.02, 0.5), images(0.02, 0.5), INPUTS):
        found = [value for value in (layer.overall, layer.between, layer.contrast) if value is not None]
        assert found == pytest.approx([1.0] * len(found))


def test_it_sees_means_and_contrasts_that_vary_less_within_classes():
    first, dense = likeness(teacher(), images(0.01, 0.25), images(0.02, 0.5), INPUTS)
    assert first.between == pytest.approx(0.5, abs=0.02)
    assert first.contrast == pytest.approx(0.5, abs=0.03)
    assert 0.6 < first.overall < 1
    assert dense.contrast is None
    assert dense.between == dense.overall < 1


def test_classes_of_few_images_are_compared_all_together():
    few = images(0.02, 0.5, 2 * FEWEST - 2)
    first, _ = likeness(teacher(), few, few, INPUTS)
    assert first.between == pytest.approx(1.0)


def test_a_channel_that_is_dead_in_real_images_says_nothing():
    dead = LabelledImages(torch.full((60, 1, 8, 8), 0.5), torch.arange(60) % 2)
    first, _ = likeness(teacher(), images(0.02, 0.5), dead, INPUTS)
    assert (first.overall, first.between, first.contrast) == (None, None, None)


def test_of_a_teacher_of_one_layer_the_logits_are_compared():
    linear = frozen(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)))
    (layer,) = likeness(linear, images(0.01, 0.5), images(0.02, 0.5), INPUTS)
    assert 0 < layer.overall == layer.between < 1
    assert layer.contrast is None
