"""Losses and priors against METHOD's formulas, written out again in numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from dfkd_exp.metadata import AllLayers, SpectralAllLayers, SpectralLayerPairs
from dfkd_exp.reconstruction import Moments, Sample
from dfkd_exp.reconstruction.group_moments import group_moments
from dfkd_exp.reconstruction.losses import covariance_loss, draw_loss, gaussian_blur, moment_loss
from tests.toy import INPUTS, toy_images, toy_teacher

GROUPS, IMAGES = 3, 5


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("relu", [True, False])
def test_draw_loss_is_the_papers(relu):
    """1/n_l sum_i (relu(a_l,i) - relu(t_l,i))^2, mean over images."""
    values, draw = random(GROUPS, IMAGES, 7), random(GROUPS, IMAGES, 7, seed=100)
    expected = np.zeros(GROUPS)
    for group in range(GROUPS):
        for image in range(IMAGES):
            a_i, t_i = values[group, image].numpy(), draw[group, image].numpy()
            if relu:
                a_i, t_i = np.maximum(a_i, 0), np.maximum(t_i, 0)
            expected[group] += sum((a_i - t_i) ** 2) / len(a_i) / IMAGES
    np.testing.assert_allclose(draw_loss(values, draw, relu), expected)


def drawn_loss(settings, metadata, activations, labels, seed=0):
    """What a group of ``activations[1, N, U]`` per layer misses of the targets that the settings draw, by the functions of losses.py."""
    total = torch.zeros(1)
    for target in settings.targets(metadata, labels, torch.Generator().manual_seed(seed)):
        values = activations[target.layer]
        if target.mean is not None:
            total = total + moment_loss(group_moments(values), target.mean[None], target.std[None], target.scale[None])
        if target.draw is not None:
            total = total + target.draw_weight * draw_loss(values, target.draw[None], target.rectified)
        if target.directions is not None:
            total = total + target.directions_weight * covariance_loss(values, target.directions[None])
    return total


@pytest.mark.parametrize("kind", [SpectralAllLayers, SpectralLayerPairs])
def test_records_are_matched_by_the_papers_sum_over_units(kind):
    """sum_i (s_bar_i - s_i(x))^2, over one graph, or over the pairs; mean over images, and no ReLU."""
    teacher, settings = toy_teacher(), Sample(group_size=IMAGES, images_per_class=IMAGES)
    metadata = kind(records_per_class=4, fraction=0.5).collect(teacher, [toy_images()], INPUTS).resolved(teacher)
    labels = torch.tensor([1] * IMAGES)
    generator = torch.Generator().manual_seed(0)
    signals = [torch.cat(statistic.sample(labels, generator), 1) for statistic in metadata.statistics]
    activations = [random(1, IMAGES, layer.num_units).float() for layer in metadata.layers]
    expected = 0.0
    for statistic, signal in zip(metadata.statistics, signals, strict=True):
        own = np.concatenate([activations[index][0].numpy() for index in statistic.layers], 1)
        expected += ((signal.numpy() - own) ** 2).sum() / IMAGES
    np.testing.assert_allclose(drawn_loss(settings, metadata, activations, labels), [expected], rtol=1e-5)


def test_an_image_is_to_have_what_one_image_had_in_every_pair_of_layers_if_that_is_asked():
    """Where all of a record is kept, both pairs that have a layer say the same of it then, and not otherwise."""
    teacher = toy_teacher()
    metadata = SpectralLayerPairs(records_per_class=8, fraction=1.0).collect(teacher, [toy_images()], INPUTS)
    resolved, labels = metadata.resolved(teacher), torch.tensor([1] * IMAGES)
    for one_image in (True, False):
        asked = Sample(group_size=IMAGES, one_image=one_image)
        targets = asked.targets(resolved, labels, torch.Generator().manual_seed(0))
        first, second = (target.draw for target in targets if target.layer == 1)
        assert torch.allclose(first, second, atol=1e-4) is one_image
        assert not torch.allclose(first[0], first[1])


def numpy_moment_loss(a, mu, sd, shrinkage):
    """(|mean_g a - mu|^2 + |std_g a - sd|^2) / |sd|^2, norms over the layer's units (METHOD), of one group.

    With a shrinkage below 1, each unit's share of |sd|^2 tends to its own variance.
    """
    errors = (a.mean(0) - mu) ** 2 + (a.std(0, ddof=1) - sd) ** 2
    return (errors / ((1 - shrinkage) * sd**2 + shrinkage * (sd**2).mean())).mean()


@pytest.mark.parametrize(("weight", "shrinkage"), [(1.0, 1.0), (0.0, 1.0), (2.5, 1.0), (1.0, 0.3)])
def test_moments_are_matched_as_method_says(weight, shrinkage):
    """Every layer's means and deviations, and a draw of the logits for each image."""
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [toy_images()], INPUTS)
    settings = Moments(images_per_class=6, group_size=6, logits_weight=weight, shrinkage=shrinkage)
    activations = [random(1, 6, layer.num_units).float() for layer in metadata.layers]
    labels, expected = torch.tensor([2] * 6), 0.0
    for values, statistic in zip(activations, metadata.statistics, strict=True):
        kept = statistic.summary
        expected += numpy_moment_loss(values[0].numpy(), kept.mean[2].numpy(), kept.std()[2].numpy(), shrinkage)
    drawn = kept.sample(2, 6, torch.Generator().manual_seed(0)).numpy()
    expected += weight * ((activations[-1][0].numpy() - drawn) ** 2).mean() / (kept.std()[2].numpy() ** 2).mean()
    found = drawn_loss(settings, metadata.resolved(toy_teacher()), activations, labels)
    np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_moment_loss_is_nothing_for_a_group_with_the_classs_moments():
    values = random(GROUPS, IMAGES, 7)
    mean, std, one = values.mean(1), values.std(1), torch.ones(GROUPS, 7)
    assert moment_loss(group_moments(values), mean, std, one).max() < 1e-12
    assert moment_loss(group_moments(values[:, torch.randperm(IMAGES)]), mean, std, one).max() < 1e-12


@pytest.mark.parametrize("dims", [(1,), (1, 3, 4)])
def test_the_gradient_of_the_moment_loss_is_right(dims):
    values = random(2, IMAGES, 3, 2, 2).requires_grad_(True)
    shape = (2, 3) if len(dims) > 1 else (2, 3, 2, 2)
    mean, std, scale = random(*shape, seed=1), random(*shape, seed=2).abs() + 0.1, random(*shape, seed=3).abs() + 0.1
    assert torch.autograd.gradcheck(lambda a: moment_loss(group_moments(a, dims), mean, std, scale), values)


def test_moments_per_channel_are_those_of_all_locations_together():
    values = random(2, IMAGES, 3, 4, 5)
    mean, variance = group_moments(values, (1, 3, 4))
    for group in range(2):
        flat = values[group].movedim(1, -1).reshape(-1, 3).numpy()
        np.testing.assert_allclose(mean[group], flat.mean(0))
        np.testing.assert_allclose(variance[group], flat.var(0, ddof=1))


WANTED = [random(GROUPS, 7, seed=seed).abs() + 0.1 for seed in (1, 2, 3)]


@pytest.mark.parametrize(
    "loss",
    [lambda a: draw_loss(a, random(GROUPS, IMAGES, 7, seed=9)), lambda a: moment_loss(group_moments(a), *WANTED)],
)
def test_a_groups_loss_depends_on_its_own_images_alone(loss):
    values = random(GROUPS, IMAGES, 7).requires_grad_(True)
    loss(values)[1].backward()
    assert values.grad[1].abs().sum() > 0
    assert values.grad[[0, 2]].abs().sum() == 0


def test_covariances_are_compared_along_the_directions_that_are_given():
    values, rows = random(3, 7, 10), random(3, 4, 10, seed=1)
    expected = [
        np.square(np.cov(along, rowvar=False) - np.eye(4)).mean()
        for along in values.numpy() @ rows.numpy().transpose(0, 2, 1)
    ]
    np.testing.assert_allclose(covariance_loss(values, rows), expected)
    fewer = torch.cat([rows, torch.zeros(3, 2, 10, dtype=rows.dtype)], 1)
    np.testing.assert_allclose(covariance_loss(values, fewer), expected)
    assert not covariance_loss(values, torch.zeros_like(rows)).any()


def test_a_group_with_the_classs_covariances_has_no_loss_from_them_and_shuffled_units_have():
    """What means and deviations cannot see: each unit as it was, and in no relation to the others."""
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [toy_images()], INPUTS).resolved(toy_teacher())
    blind = Moments(images_per_class=400, group_size=400, logits_weight=0)
    settings = replace(blind, covariance_weight=1, covariance_directions=3)
    labels = torch.zeros(400, dtype=torch.long)
    sampled = [s.sample(labels, torch.Generator().manual_seed(1))[0] for s in metadata.statistics]
    shuffled = [torch.stack([column[torch.randperm(400)] for column in values.T], 1) for values in sampled]
    near, far, *indifferent = (
        drawn_loss(chosen, metadata, [v[None] for v in values], labels).item()
        for chosen in (settings, blind)
        for values in (sampled, shuffled)
    )
    assert indifferent[0] == pytest.approx(indifferent[1], rel=1e-4)
    assert far > 3 * near


@pytest.mark.parametrize("logits_weight", [0.0, 1.0])
def test_covariances_of_the_logits_are_asked_for_once(logits_weight):
    """By draws, which vary together as the class does, or else like those of other layers."""
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [toy_images()], INPUTS).resolved(toy_teacher())
    settings = Moments(images_per_class=8, group_size=8, covariance_weight=1, logits_weight=logits_weight)
    *hidden, logits = settings.targets(metadata, torch.zeros(8, dtype=torch.long), torch.Generator().manual_seed(0))
    assert all(layer.directions is not None for layer in hidden)
    assert (logits.directions is None, logits.draw is None) == (logits_weight > 0, logits_weight == 0)


def test_units_that_never_vary_leave_loss_and_gradient_finite():
    """Dead in the data and in the reconstructions: a deviation of zero, whose root has no slope."""
    values = torch.ones(1, 4, 3, requires_grad=True)
    loss = moment_loss(group_moments(values), torch.zeros(1, 3), torch.zeros(1, 3), torch.full((1, 3), 1e-8))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert values.grad.isfinite().all()


@pytest.mark.parametrize("settings", [Sample(normalise=True), Sample(), Moments()], ids=lambda s: repr(s)[:30])
def test_metadata_without_spread_leaves_the_loss_finite(settings):
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [toy_images(1)], INPUTS).resolved(toy_teacher())
    activations = [torch.ones(1, 4, layer.num_units) for layer in metadata.layers]
    assert drawn_loss(settings, metadata, activations, torch.zeros(4, dtype=torch.long)).isfinite().all()


@pytest.mark.parametrize("settings", [Sample(normalise=True), Moments()], ids=lambda s: repr(s)[:30])
@pytest.mark.parametrize("size", [1e-6, 1e5])
@pytest.mark.parametrize("varies", [True, False], ids=["class that varies", "class of one image"])
def test_the_loss_is_the_same_in_whatever_units_signals_are(settings, size, varies):
    """Those of a network whose weights are small are small: none of them is taken for rounding."""
    metadata = AllLayers(covariance="diagonal").collect(toy_teacher(), [toy_images()], INPUTS)
    for statistic in metadata.statistics:
        statistic.summary.variance[2] *= varies
    activations = [random(1, 6, layer.num_units).float() for layer in metadata.layers]
    labels = torch.tensor([2] * 6)
    expected = drawn_loss(settings, metadata.resolved(toy_teacher()), activations, labels)
    for statistic in metadata.statistics:
        statistic.summary.mean *= size
        statistic.summary.variance *= size**2
    scaled = [size * values for values in activations]
    found = drawn_loss(settings, metadata.resolved(toy_teacher()), scaled, labels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_normalising_divides_each_layer_by_its_mean_variance():
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [toy_images()], INPUTS)
    expected = [
        1 / np.mean([np.diag(s.summary.matrix(k).numpy()).mean() for k in range(3)]) for s in metadata.statistics
    ]
    labels = torch.zeros(4, dtype=torch.long)
    targets = Sample(normalise=True).targets(metadata.resolved(toy_teacher()), labels, torch.Generator())
    np.testing.assert_allclose([float(target.draw_weight) for target in targets], expected, rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.7])
def test_blurring_is_a_gaussian_with_repeated_edges(sigma):
    images = random(2, 3, 16, 13)
    radius = max(1, round(3 * sigma))
    expected = gaussian_filter(images.numpy(), sigma, mode="nearest", radius=radius, axes=(2, 3))
    np.testing.assert_allclose(gaussian_blur(images, sigma), expected, atol=1e-12)


def test_blurring_takes_images_smaller_than_the_kernel_and_keeps_a_constant():
    blurred = gaussian_blur(torch.full((1, 2, 3, 4), 0.7), 5.0)
    torch.testing.assert_close(blurred, torch.full((1, 2, 3, 4), 0.7))
