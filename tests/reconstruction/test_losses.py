"""Losses and priors against METHOD's formulas, written out again in numpy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from dfkd_exp.metadata import AllLayers, SpectralAllLayers, SpectralLayerPairs
from dfkd_exp.reconstruction import Moments, Sample
from dfkd_exp.reconstruction.losses import covariance_loss, gaussian_blur, moment_loss, sample_loss, total_variation
from tests.toy import INPUTS, toy_images, toy_teacher

GROUPS, IMAGES, UNITS = 3, 5, (7, 4)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layers(seed):
    return [random(GROUPS, IMAGES, units, seed=seed + units) for units in UNITS]


def statistics(seed):
    return [random(GROUPS, units, seed=seed + units) for units in UNITS]


def draws(seed, blocks=1):
    """As many draws for every layer as there are blocks that hold it."""
    return [tuple(values) for values in zip(*(layers(seed + block) for block in range(blocks)), strict=True)]


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("relu", [True, False])
def test_sample_loss_is_the_papers(relu, blocks):
    """sum_l 1/n_l sum_i (relu(a_l,i) - relu(t_l,i))^2, mean over images; over the pairs that a layer is in, the sum."""
    activations, targets = layers(0), draws(100, blocks)
    expected = np.zeros(GROUPS)
    for group in range(GROUPS):
        for image in range(IMAGES):
            for a, layer in zip(activations, targets, strict=True):
                for t in layer:
                    a_i, t_i = a[group, image].numpy(), t[group, image].numpy()
                    if relu:
                        a_i, t_i = np.maximum(a_i, 0), np.maximum(t_i, 0)
                    expected[group] += sum((a_i - t_i) ** 2) / len(a_i) / IMAGES
    np.testing.assert_allclose(sample_loss(activations, targets, relu=relu), expected)


def test_sample_loss_may_be_weighed_per_layer():
    activations, targets = layers(0), draws(100)
    each = [sample_loss([a], [t]) for a, t in zip(activations, targets, strict=True)]
    both = sample_loss(activations, targets, weights=[2.0, 5.0])
    torch.testing.assert_close(both, 2 * each[0] + 5 * each[1])


@pytest.mark.parametrize("kind", [SpectralAllLayers, SpectralLayerPairs])
def test_records_are_matched_by_the_papers_sum_over_units(kind):
    """sum_i (s_bar_i - s_i(x))^2, over one graph, or over the pairs; mean over images, and no ReLU."""
    teacher, settings = toy_teacher(), Sample(group_size=IMAGES, images_per_class=IMAGES)
    metadata = kind(records_per_class=4, fraction=0.5).collect(teacher, [toy_images()], INPUTS).in_units(teacher)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    signals = metadata.targets(1, IMAGES, generators[0])
    activations = [random(1, IMAGES, layer.num_units).float() for layer in metadata.layers]
    expected = 0.0
    for block, signal in zip(metadata.blocks, signals, strict=True):
        own = np.concatenate([activations[index][0].numpy() for index in block.layers], 1)
        expected += ((signal.numpy() - own) ** 2).sum() / IMAGES
    targets = [tuple(t[None] for t in layer) for layer in settings.draw_targets(metadata, 1, generators[1])]
    np.testing.assert_allclose(settings.loss(activations, targets, metadata), [expected], rtol=1e-5)


def numpy_moment_loss(activations, means, deviations, logits, weight, shrinkage):
    """Per layer, (|mean_g a - mu|^2 + |std_g a - sd|^2) / |sd|^2, norms over the layer's units (METHOD); then the logits.

    With a shrinkage below 1, each unit's share of |sd|^2 tends to its own variance.
    """
    total = np.zeros(GROUPS)
    for group in range(GROUPS):
        for a, mean, deviation in zip(activations, means, deviations, strict=True):
            own, mu, sd = a[group].numpy(), mean[group].numpy(), deviation[group].numpy()
            errors = (own.mean(0) - mu) ** 2 + (own.std(0, ddof=1) - sd) ** 2
            own_share, shared = (1 - shrinkage) * sd**2, shrinkage * (sd**2).mean()
            total[group] += (errors / (own_share + shared)).mean()
        drawn, sd = logits[group].numpy(), deviations[-1][group].numpy()
        total[group] += weight * ((activations[-1][group].numpy() - drawn) ** 2).mean() / (sd**2).mean()
    return total


@pytest.mark.parametrize(("weight", "shrinkage"), [(1.0, 1.0), (0.0, 1.0), (2.5, 1.0), (1.0, 0.3)])
def test_moment_loss_is_methods(weight, shrinkage):
    activations, means = layers(0), statistics(100)
    deviations = [d.abs() + 0.1 for d in statistics(200)]
    logits = random(GROUPS, IMAGES, UNITS[-1], seed=300)
    expected = numpy_moment_loss(activations, means, deviations, logits, weight, shrinkage)
    loss = moment_loss(activations, means, deviations, logits, weight, shrinkage)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_moment_loss_is_nothing_for_a_group_with_the_classs_moments():
    activations = layers(0)
    means, deviations = [a.mean(1) for a in activations], [a.std(1) for a in activations]
    assert moment_loss(activations, means, deviations).max() < 1e-12
    torch.testing.assert_close(
        moment_loss([a[:, torch.randperm(IMAGES)] for a in activations], means, deviations).max(),
        torch.tensor(0.0).double(),
        atol=1e-12,
        rtol=0,
    )


def test_the_gradient_of_the_moment_loss_is_right():
    activations = [a[:, :, :3].clone().requires_grad_(True) for a in layers(0)]
    means = [m[:, :3] for m in statistics(100)]
    deviations = [m.abs() + 0.1 for m in means]
    assert torch.autograd.gradcheck(lambda *a: moment_loss(list(a), means, deviations, a[-1].detach() * 0), activations)


@pytest.mark.parametrize("loss", ["sample", "moments"])
def test_a_groups_loss_depends_on_its_own_images_alone(loss):
    activations = [a.requires_grad_(True) for a in layers(0)]
    if loss == "sample":
        losses = sample_loss(activations, draws(100))
    else:
        losses = moment_loss(activations, statistics(100), [d.abs() + 0.1 for d in statistics(200)])
    losses[1].backward()
    for values in activations:
        assert values.grad[1].abs().sum() > 0
        assert values.grad[[0, 2]].abs().sum() == 0


def test_covariances_are_compared_along_the_directions_that_are_given():
    activations, rows = random(3, 7, 2, 5), random(3, 4, 2, 5, seed=1)
    expected = [
        np.square(np.cov(along, rowvar=False) - np.eye(4)).mean()
        for along in activations.numpy().reshape(3, 7, 10) @ rows.numpy().reshape(3, 4, 10).transpose(0, 2, 1)
    ]
    none = torch.empty(3, 0, 6)
    np.testing.assert_allclose(covariance_loss([random(3, 7, 6), activations], [none, rows]), expected)


def test_a_group_with_the_classs_covariances_has_no_loss_from_them_and_shuffled_units_have():
    """What means and deviations cannot see: each unit as it was, and in no relation to the others."""
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [toy_images()], INPUTS)
    settings = Moments(
        images_per_class=400, group_size=400, logits_weight=0, covariance_weight=1, covariance_directions=3
    )
    drawn = settings.draw_targets(metadata, 0, torch.Generator().manual_seed(0))
    targets = [tuple(values.unsqueeze(0) for values in layer) for layer in drawn]
    sampled = metadata.targets(0, 400, torch.Generator().manual_seed(1))
    shuffled = [torch.stack([column[torch.randperm(400)] for column in values.T], 1) for values in sampled]
    near, far = (settings.loss([v[None] for v in values], targets, metadata).item() for values in (sampled, shuffled))
    blind = Moments(images_per_class=400, group_size=400, logits_weight=0)
    plain = [layer[:2] for layer in targets]
    plain[-1] = (*plain[-1], targets[-1][-1])
    indifferent = [blind.loss([v[None] for v in values], plain, metadata).item() for values in (sampled, shuffled)]
    assert indifferent[0] == pytest.approx(indifferent[1], rel=1e-4)
    assert far > 3 * near


def test_units_that_never_vary_leave_loss_and_gradient_finite():
    """Dead in the data and in the reconstructions: a deviation of zero, whose root has no slope."""
    activations = torch.ones(1, 4, 3, requires_grad=True)
    loss = moment_loss([activations], [torch.zeros(1, 3)], [torch.zeros(1, 3)])
    loss.sum().backward()
    assert loss.isfinite().all()
    assert activations.grad.isfinite().all()


@pytest.mark.parametrize("settings", [Sample(normalise=True), Sample(), Moments()], ids=lambda s: repr(s)[:30])
def test_metadata_without_spread_leaves_the_loss_finite(settings):
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [toy_images(1)], INPUTS)
    settings.group_size = 4
    drawn = settings.draw_targets(metadata, 0, torch.Generator().manual_seed(0))
    targets = [tuple(values.unsqueeze(0) for values in layer) for layer in drawn]
    activations = [torch.ones(1, 4, layer.num_units) for layer in metadata.layers]
    assert settings.loss(activations, targets, metadata).isfinite().all()


def test_normalising_divides_each_layer_by_its_mean_variance():
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [toy_images()], INPUTS)
    activations = [torch.ones(1, 4, layer.num_units) for layer in metadata.layers]
    targets = [(torch.zeros_like(a),) for a in activations]
    scales = [np.mean([np.diag(s.matrix(k).numpy()).mean() for k in range(3)]) for s in metadata.statistics]
    loss = Sample(normalise=True, group_size=4).loss(activations, targets, metadata)
    np.testing.assert_allclose(loss, [sum(1 / scale for scale in scales)], rtol=1e-5)


def test_total_variation_is_the_mean_difference_of_neighbours():
    images = random(2, 3, 4, 5)
    pixels = images.numpy()
    expected = abs(np.diff(pixels, axis=2)).mean((1, 2, 3)) + abs(np.diff(pixels, axis=3)).mean((1, 2, 3))
    np.testing.assert_allclose(total_variation(images), expected)
    assert total_variation(torch.full((1, 1, 4, 4), 0.3)).item() == 0
    assert total_variation(images[..., :1]).isfinite().all(), "a column has no neighbours beside it"


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.7])
def test_blurring_is_a_gaussian_with_repeated_edges(sigma):
    images = random(2, 3, 16, 13)
    radius = max(1, round(3 * sigma))
    expected = gaussian_filter(images.numpy(), sigma, mode="nearest", radius=radius, axes=(2, 3))
    np.testing.assert_allclose(gaussian_blur(images, sigma), expected, atol=1e-12)


def test_blurring_takes_images_smaller_than_the_kernel_and_keeps_a_constant():
    blurred = gaussian_blur(torch.full((1, 2, 3, 4), 0.7), 5.0)
    torch.testing.assert_close(blurred, torch.full((1, 2, 3, 4), 0.7))
