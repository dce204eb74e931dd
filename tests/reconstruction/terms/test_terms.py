"""Every term against its formula, written out again in numpy; and in the loss with its weight."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dfkd_exp.config.groups import kinds
from dfkd_exp.errors import ConfigError
from dfkd_exp.reconstruction.terms.activation import Activation
from dfkd_exp.reconstruction.terms.batch_norm import BatchNorm
from dfkd_exp.reconstruction.terms.class_entropy import ClassEntropy
from dfkd_exp.reconstruction.terms.class_impression import ClassImpression
from dfkd_exp.reconstruction.terms.confidence import Confidence
from dfkd_exp.reconstruction.terms.disagreement import Disagreement
from dfkd_exp.reconstruction.terms.feature_distance import FeatureDistance
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
        features=noise(count, 7), student_logits=noise(count, classes), drawn=noise(count, classes).softmax(1),
        class_weights=noise(classes, 7), features_of=lambda pixels: pixels.flatten(1)[:, :7],
        batch_norms=[AtBatchNorm(noise(count, *own), noise(own[0]), noise(own[0]).square()) for own in ((3, 4, 5), (8,))],
    )  # fmt: skip


def softmax(logits):
    exponentials = np.exp(logits.double().numpy())
    return exponentials / exponentials.sum(1, keepdims=True)


def test_activation_is_the_negative_mean_size_of_the_features():
    shown = candidates()
    np.testing.assert_allclose(Activation()(shown), -np.abs(shown.features.numpy()).sum(1) / 7, rtol=1e-5)


def test_feature_distance_is_one_less_the_cosine_with_the_weights_of_the_class():
    shown = candidates()
    features, weights = shown.features.double().numpy(), shown.class_weights.double().numpy()[shown.labels]
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(weights, axis=1)
    np.testing.assert_allclose(FeatureDistance()(shown), 1 - (features * weights).sum(1) / lengths, rtol=1e-5)


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


def test_total_variation_by_the_euclidean_norm_and_in_four_directions():
    shown = candidates()
    pixels = shown.pixels.double().numpy()
    across, down = np.diff(pixels, axis=3), np.diff(pixels, axis=2)
    falling = pixels[:, :, 1:, 1:] - pixels[:, :, :-1, :-1]
    rising = pixels[:, :, 1:, :-1] - pixels[:, :, :-1, 1:]

    def rms(differences):
        return np.sqrt((differences**2).mean((1, 2, 3)))

    np.testing.assert_allclose(TotalVariation(norm="l2")(shown), rms(across) + rms(down), rtol=1e-5)
    expected = rms(across) + rms(down) + rms(falling) + rms(rising)
    np.testing.assert_allclose(TotalVariation(norm="l2", diagonals=True)(shown), expected, rtol=1e-5)
    expected = sum(np.abs(of).mean((1, 2, 3)) for of in (across, down, falling, rising))
    np.testing.assert_allclose(TotalVariation(diagonals=True)(shown), expected, rtol=1e-5)


def test_a_weight_of_total_variation_is_deepinversions_for_the_norm_over_a_batch():
    """Its docstring's conversion, of images that differ alike."""
    count, deviation = 256, 0.25
    row = torch.tensor([0.0, 1.0, 0.0, 1.0])
    pixels = (row != row[:, None]).float().expand(count, 3, 4, 4)
    inputs = ((pixels - 0.5) / deviation).numpy()
    published = 2.5e-5 * (np.linalg.norm(np.diff(inputs, axis=2)) + np.linalg.norm(np.diff(inputs, axis=3)))
    weight = 2.5e-5 * (count * 3 * 3 * 4) ** 0.5 / deviation
    ours = weight * TotalVariation(norm="l2")(replace(candidates(), pixels=pixels)).mean()
    assert ours.item() == pytest.approx(published, rel=1e-5)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_total_variation_of_other_shapes(norm):
    term = TotalVariation(norm=norm, diagonals=True)
    assert not term(candidates(shape=(5,))).any(), "a table has no neighbours"
    for shape in ((2, 9), (1, 3, 4, 5), (1, 4, 1)):
        shown = candidates(shape=shape)
        shown.pixels[0] = 0.5  # all alike: the root has no slope there
        shown.pixels.requires_grad_(True)
        values = term(shown)
        values.sum().backward()
        assert values[0] == 0
        assert (values[1:] > 0).all()
        assert shown.pixels.grad.isfinite().all()


def test_an_unknown_norm_is_refused():
    with pytest.raises(ConfigError, match=r"terms\.norm must be one of l1, l2, got 'euclidean'"):
        TotalVariation(norm="euclidean")


def test_l2_is_the_mean_squared_pixel():
    shown = candidates()
    np.testing.assert_allclose(L2()(shown), (shown.pixels.numpy() ** 2).mean((1, 2, 3)), rtol=1e-5)


def test_the_labels_term_is_the_cross_entropy_with_the_class():
    shown = candidates()
    logits = shown.logits.double().numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(probabilities[np.arange(6), shown.labels.numpy()])
    np.testing.assert_allclose(Label()(shown), expected, rtol=1e-5)


def test_a_class_impression_is_the_cross_entropy_with_the_soft_label_that_was_drawn():
    shown = candidates()
    expected = -(shown.drawn.numpy() * np.log(softmax(shown.logits / 20))).sum(1)
    np.testing.assert_allclose(ClassImpression()(shown), expected, rtol=1e-5)


def test_soft_labels_are_of_the_dirichlet_distribution_of_how_much_classes_are_alike():
    """Mean and variance of 4,000 draws: a_k / a, and mean (1 - mean) / (a + 1), a being the concentrations and their sum."""
    weights = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    units = weights.double().numpy() / np.linalg.norm(weights.double().numpy(), axis=1, keepdims=True)
    similar = units @ units.T
    labels = torch.full((4000,), 2)
    for beta in (1.0, 0.1):
        drawn = ClassImpression(betas=[beta]).draw(labels, weights, torch.Generator().manual_seed(0)).double().numpy()
        np.testing.assert_allclose(drawn.sum(1), 1, rtol=1e-5)
        own = beta * (similar[2] - similar[2].min()) / (similar[2].max() - similar[2].min()) + 1e-4
        mean = own / own.sum()
        np.testing.assert_allclose(drawn.mean(0), mean, atol=0.03)
        np.testing.assert_allclose(drawn.var(0), mean * (1 - mean) / (own.sum() + 1), atol=0.015)


def test_every_class_has_images_of_each_beta():
    """Classes that take turns, too, of which each would have one of them if these took turns with them."""
    weights = torch.randn(10, 7, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(2000) % 10
    drawn = ClassImpression(betas=[1.0, 1e-3]).draw(labels, weights, torch.Generator().manual_seed(0))
    sure = (drawn.amax(1) > 0.99).float()
    of_each = torch.stack([sure[labels == label].mean() for label in range(10)])
    assert of_each.min() > 0.4
    assert of_each.max() < 0.7


@pytest.mark.parametrize("settings", [{"betas": []}, {"betas": [0.0]}, {"temperature": 0.0}])
def test_a_class_impression_that_cannot_be_is_refused(settings):
    with pytest.raises(ConfigError, match=f"terms.{next(iter(settings))} must be"):
        ClassImpression(**settings)


@pytest.mark.parametrize("name", kinds("terms"))
def test_a_term_has_a_value_for_each_image_and_a_gradient(name):
    shown = candidates()
    looked_at = [shown.pixels, shown.logits, shown.features, *(layer.values for layer in shown.batch_norms)]
    for tensor in looked_at:
        tensor.requires_grad_(True)
    term = kinds("terms")[name]()
    at_work = term.start((3, 4, 5), num_features=7, seed=0) if term.learns else term
    values = at_work(shown)
    assert values.shape == ((2,) if term.of_groups else (6,))
    values.sum().backward()
    gradients = [tensor.grad for tensor in looked_at if tensor.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", kinds("terms"))
def test_a_negative_weight_is_refused(name):
    with pytest.raises(ConfigError, match=r"terms\.weight must be at least 0"):
        kinds("terms")[name](weight=-1.0)
