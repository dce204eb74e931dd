"""Every term against its formula, written out again in numpy; and in the loss with its weight."""

import numpy as np
import pytest
import torch

from dfkd_exp.config import kinds
from dfkd_exp.errors import ConfigError
from dfkd_exp.reconstruction.terms.l2 import L2
from dfkd_exp.reconstruction.terms.label import Label
from dfkd_exp.reconstruction.terms.term import Candidates
from dfkd_exp.reconstruction.terms.total_variation import TotalVariation


def candidates(count=6, shape=(3, 4, 5), classes=4):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(count, *shape, generator=generator)
    return Candidates(pixels, torch.randn(count, classes, generator=generator), torch.arange(count) % classes)


def test_total_variation_is_the_mean_difference_of_neighbours():
    shown = candidates()
    pixels = shown.pixels.numpy()
    expected = abs(np.diff(pixels, axis=2)).mean((1, 2, 3)) + abs(np.diff(pixels, axis=3)).mean((1, 2, 3))
    np.testing.assert_allclose(TotalVariation()(shown), expected, rtol=1e-5)
    assert TotalVariation()(candidates(shape=(1, 4, 1))).isfinite().all(), "a column has no neighbours beside it"


def test_l2_is_the_mean_squared_pixel():
    shown = candidates()
    np.testing.assert_allclose(L2()(shown), (shown.pixels.numpy() ** 2).mean((1, 2, 3)), rtol=1e-5)


def test_the_labels_term_is_the_cross_entropy_with_the_class():
    shown = candidates()
    logits = shown.logits.double().numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(probabilities[np.arange(6), shown.labels.numpy()])
    np.testing.assert_allclose(Label()(shown), expected, rtol=1e-5)


@pytest.mark.parametrize("name", kinds("terms"))
def test_a_term_has_a_value_for_each_image_and_a_gradient(name):
    shown = candidates()
    shown.pixels.requires_grad_(True)
    shown.logits.requires_grad_(True)
    values = kinds("terms")[name]()(shown)
    assert values.shape == (6,)
    values.sum().backward()
    gradients = [tensor.grad for tensor in (shown.pixels, shown.logits) if tensor.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", kinds("terms"))
def test_a_negative_weight_is_refused(name):
    with pytest.raises(ConfigError, match=r"terms\.weight must be at least 0"):
        kinds("terms")[name](weight=-1.0)
