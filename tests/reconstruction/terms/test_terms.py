"""Every term against its formula, written out again in numpy; and in the loss with its weight."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dfkd_exp.config import kinds
from dfkd_exp.errors import ConfigError
from dfkd_exp.reconstruction.terms.activation import Activation
from dfkd_exp.reconstruction.terms.batch_norm import BatchNorm
from dfkd_exp.reconstruction.terms.class_entropy import ClassEntropy
from dfkd_exp.reconstruction.terms.confidence import Confidence
from dfkd_exp.reconstruction.terms.disagreement import Disagreement
from dfkd_exp.reconstruction.terms.l2 import L2
from dfkd_exp.reconstruction.terms.label import Label
from dfkd_exp.reconstruction.terms.term import AtBatchNorm, Candidates
from dfkd_exp.reconstruction.terms.total_variation import TotalVariation


def candidates(count=6, shape=(3, 4, 5), classes=4, groups=2):
    """As many images, in groups, and all that a term may look at."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    return Candidates(
        torch.rand(count, *shape, generator=generator), noise(count, classes), torch.arange(count) % classes, groups,
        features=noise(count, 7), student_logits=noise(count, classes),
        batch_norms=[AtBatchNorm(noise(count, *own), noise(own[0]), noise(own[0]).square()) for own in ((3, 4, 5), (8,))],
    )  # fmt: skip


def softmax(logits):
    exponentials = np.exp(logits.double().numpy())
    return exponentials / exponentials.sum(1, keepdims=True)


def test_activation_is_the_negative_mean_size_of_the_features():
    shown = candidates()
    np.testing.assert_allclose(Activation()(shown), -np.abs(shown.features.numpy()).sum(1) / 7, rtol=1e-5)


def test_confidence_is_the_cross_entropy_with_the_teachers_own_choice():
    shown = candidates()
    np.testing.assert_allclose(Confidence()(shown), -np.log(softmax(shown.logits).max(1)), rtol=1e-5)


def test_class_entropy_is_that_of_the_mean_probabilities_of_each_group():
    shown = candidates()
    means = softmax(shown.logits).reshape(2, 3, 4).mean(1)
    np.testing.assert_allclose(ClassEntropy()(shown), (means * np.log(means)).sum(1), rtol=1e-5)


def test_class_entropy_is_least_where_all_classes_are_equally_many():
    logits = 100 * torch.cat([torch.eye(4), torch.eye(4)[[0, 0, 0, 0]]])
    value = ClassEntropy()(replace(candidates(count=8), logits=logits))
    np.testing.assert_allclose(value, [-np.log(4), 0], atol=1e-6)


def test_batch_norm_is_the_distance_of_a_groups_moments_from_the_running_ones():
    shown = candidates()
    expected = np.zeros(2)
    for layer in shown.batch_norms:
        values, mean, variance = (t.double().numpy() for t in (layer.values, layer.mean, layer.variance))
        for group in range(2):
            own = np.moveaxis(values[3 * group : 3 * group + 3], 1, 0).reshape(len(mean), -1)
            expected[group] += np.linalg.norm(own.mean(1) - mean) + np.linalg.norm(own.var(1) - variance)
    np.testing.assert_allclose(BatchNorm()(shown), expected, rtol=1e-5)


def kl(p, q):
    return (p * np.log(p / q)).sum(1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_disagreement_is_the_negative_divergence_between_teacher_and_student(temperature):
    shown = candidates()
    p, q = softmax(shown.logits / temperature), softmax(shown.student_logits / temperature)
    np.testing.assert_allclose(Disagreement(temperature=temperature)(shown), -kl(p, q), rtol=1e-5)
    middle = (p + q) / 2
    expected = -(kl(p, middle) + kl(q, middle)) / 2
    np.testing.assert_allclose(Disagreement(distance="js", temperature=temperature)(shown), expected, rtol=1e-4)


def test_disagreement_of_logits_is_their_negative_mean_distance():
    shown = candidates()
    expected = -np.abs(shown.logits.numpy() - shown.student_logits.numpy()).mean(1)
    np.testing.assert_allclose(Disagreement(distance="l1")(shown), expected, rtol=1e-5)


def test_disagreement_may_be_only_where_both_choose_the_same_class():
    shown = candidates(count=40)
    agreed = (shown.logits.argmax(1) == shown.student_logits.argmax(1)).numpy()
    assert 0 < agreed.sum() < 40
    expected = np.where(agreed, Disagreement()(shown), 0)
    np.testing.assert_allclose(Disagreement(agreed_only=True)(shown), expected, rtol=1e-5)


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
    looked_at = [shown.pixels, shown.logits, shown.features, *(layer.values for layer in shown.batch_norms)]
    for tensor in looked_at:
        tensor.requires_grad_(True)
    term = kinds("terms")[name]()
    values = term(shown)
    assert values.shape == ((2,) if term.of_groups else (6,))
    values.sum().backward()
    gradients = [tensor.grad for tensor in looked_at if tensor.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", kinds("terms"))
def test_a_negative_weight_is_refused(name):
    with pytest.raises(ConfigError, match=r"terms\.weight must be at least 0"):
        kinds("terms")[name](weight=-1.0)
