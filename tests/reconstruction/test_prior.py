"""Images in the directions of the teacher's weights: the Gaussian that they are, and what a reconstruction does with it."""

import numpy as np
import pytest
import torch
from torch import nn

from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayers, TopLayer
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction import Moments
from dfkd_exp.reconstruction import prior as module
from dfkd_exp.reconstruction.engine.settings import PLAIN
from dfkd_exp.reconstruction.loop import reconstruct, reconstruct_groups
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.optimizers import Adam
from dfkd_exp.reconstruction.parametrisation.auto import Auto
from dfkd_exp.reconstruction.parametrisation.base import within_range
from dfkd_exp.reconstruction.parametrisation.latents import Latents, LatentSpace
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels, PixelSpace
from dfkd_exp.reconstruction.prior import SPREAD, effective_number, weights_prior
from tests.toy import CLASSES, INPUTS, problem, toy_images, toy_teacher

SETTINGS, LATENTS = Moments(images_per_class=8, group_size=4, steps=20), Latents(directions=5)


def dense_teacher():
    torch.manual_seed(0)
    return frozen(nn.Sequential(nn.Flatten(), nn.Linear(36, 50), nn.ReLU(), nn.Linear(50, CLASSES)))


def covariance(prior):
    return (prior.basis.T @ prior.basis).double()


def test_the_covariance_is_a_power_of_that_of_the_weights():
    teacher = dense_teacher()
    found = covariance(weights_prior(teacher, INPUTS, 5, (0.15,)))
    values, vectors = np.linalg.eigh(teacher[1].weight.double().T.numpy() @ teacher[1].weight.double().numpy())
    own = np.einsum("ij,jk,ki->i", vectors.T, found.numpy(), vectors)
    np.testing.assert_allclose(vectors @ np.diag(own) @ vectors.T, found, atol=1e-6)  # the same eigenvectors
    powers = np.log(own[-6:] / own[-1])[:-1] / np.log(values[-6:] / values[-1])[:-1]
    np.testing.assert_allclose(powers, powers[0], rtol=1e-3)


@pytest.mark.parametrize("directions", [2, 5, 20])
def test_as_many_directions_as_asked_and_pixels_as_far_apart_as_those_of_digits(directions):
    found = covariance(weights_prior(dense_teacher(), INPUTS, directions, (0.15,)))
    values = torch.linalg.eigvalsh(found).clamp_min(0)
    assert effective_number(values / values.sum()) == pytest.approx(directions, rel=1e-3)
    assert found.diagonal().mean().sqrt() == pytest.approx(SPREAD, rel=1e-5)


def test_where_no_weight_sees_there_is_the_mean():
    teacher = dense_teacher()
    with torch.no_grad():
        teacher[1].weight[:, :6] = 0
    pixels = weights_prior(teacher, INPUTS, 5, (0.15,))(torch.randn(7, 36))
    torch.testing.assert_close(pixels[:, 0, 0], torch.full((7, 6), 0.15))


def test_through_convolutions_and_pooling_the_map_is_the_dense_one():
    """Against the matrix formed pixel by pixel, with pooling by means and no activations."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 7),
        nn.ReLU(),
        nn.Linear(7, CLASSES),
    ]
    linear = nn.Sequential(layers[0], nn.AvgPool2d(2), layers[3], layers[4]).double()
    with torch.no_grad():
        pixels = torch.eye(36, dtype=torch.float64).view(36, 1, 6, 6)
        expected = (linear(pixels) - linear(0 * pixels)).T
        found = covariance(weights_prior(nn.Sequential(*layers).float(), INPUTS, 4, (0.15,))).numpy()
    _, _, rows = np.linalg.svd(expected.numpy(), full_matrices=False)
    diagonal = rows @ found @ rows.T
    np.testing.assert_allclose(rows.T @ np.diag(np.diag(diagonal)) @ rows, found, atol=1e-5)


def test_pixels_are_meant_whatever_the_network_is_fed():
    teacher = dense_teacher()
    scaled = InputSpec(INPUTS.shape, (-1.0,), (3.0,))
    torch.testing.assert_close(
        covariance(weights_prior(teacher, INPUTS, 5, (0.15,))), covariance(weights_prior(teacher, scaled, 5, (0.15,)))
    )


def test_leading_directions_are_those_of_the_whole(monkeypatch):
    whole = weights_prior(dense_teacher(), INPUTS, 3, (0.15,))
    monkeypatch.setattr(module, "LARGEST_MATRIX", 0)
    teacher = dense_teacher()
    leading = weights_prior(teacher, INPUTS, 3, (0.15,))
    assert len(leading.basis) < len(whole.basis)
    torch.testing.assert_close(covariance(leading), covariance(whole), atol=2e-4, rtol=0)


def test_a_changed_teacher_has_another_prior():
    teacher = dense_teacher()
    before = covariance(weights_prior(teacher, INPUTS, 5, (0.15,)))
    with torch.no_grad():
        teacher[1].weight[:, :18] = 0
    assert (covariance(weights_prior(teacher, INPUTS, 5, (0.15,))) - before).norm() > 0.1 * before.norm()


def test_a_teacher_without_a_dense_layer_is_refused_and_auto_leaves_it_its_pixels():
    teacher = frozen(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, CLASSES)))
    metadata = TopLayer().collect(teacher, [toy_images()], INPUTS)
    with pytest.raises(DfkdError, match=r"parametrisation=pixels"):
        reconstruct(teacher, metadata, 4, parametrisation=Latents())
    assert isinstance(Auto().build(teacher, metadata.resolved(teacher)), PixelSpace)


def test_a_map_that_is_not_affine_is_refused_and_auto_leaves_it_its_pixels():
    layers = [nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, CLASSES)]
    teacher = frozen(nn.Sequential(*layers))
    metadata = TopLayer().collect(teacher, [toy_images()], INPUTS)
    with pytest.raises(DfkdError, match=r"is not affine.*parametrisation=pixels"):
        reconstruct(teacher, metadata, 4, parametrisation=Latents())
    assert isinstance(Auto().build(teacher, metadata.resolved(teacher)), PixelSpace)


@pytest.mark.parametrize(("kind", "chosen"), [(TopLayer, LatentSpace), (AllLayers, PixelSpace)])
def test_auto_takes_latents_where_the_metadata_says_nothing_of_the_first_layer(kind, chosen):
    teacher = frozen(toy_teacher())
    metadata = kind().collect(teacher, [toy_images()], INPUTS)
    assert isinstance(Auto().build(teacher, metadata.resolved(teacher)), chosen)


def test_images_of_latents_fit_the_metadata_and_stay_in_range():
    teacher = dense_teacher()
    metadata = TopLayer().collect(teacher, [toy_images()], INPUTS)
    made = reconstruct(teacher, metadata, 8, steps=100, parametrisation=LATENTS)
    assert (made.losses[-1] < 0.5 * made.losses[0]).all()
    assert made.inputs.min() == 0  # where the mean is 0.15 and pixels deviate by 0.3, some meet the bounds
    assert made.inputs.max() == 1


def test_images_are_the_priors_of_their_latents_and_excess_is_what_the_bounds_cut_off():
    prior = weights_prior(dense_teacher(), INPUTS, 5, (0.15,))
    latents = torch.randn(20, len(prior.basis), generator=torch.Generator().manual_seed(0))
    pixels, excess = within_range(prior(latents))
    free = (0.15 + torch.einsum("nd,dp->np", latents, prior.basis)).view(-1, *INPUTS.shape)
    torch.testing.assert_close(pixels, free.clip(0, 1))
    beyond = torch.relu(-free).square() + torch.relu(free - 1).square()
    torch.testing.assert_close(excess, 0.1 * beyond.sum((1, 2, 3)))
    assert excess.max() > 0


def test_the_gradient_is_that_of_the_images_through_the_prior_and_its_bounds():
    teacher = dense_teacher()
    metadata = TopLayer().collect(teacher, [toy_images()], INPUTS)
    objective = Objective(problem(teacher, metadata, SETTINGS, LATENTS), PLAIN)
    latents, targets = draw_groups(objective, [0, 1], seed=0)
    _, gradient = objective(latents, targets)
    step = 1e-3 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    ahead, behind = (objective(latents + sign * step, targets)[0].sum() for sign in (1, -1))
    assert (ahead - behind) / 2 == pytest.approx((gradient * step).sum().item(), rel=0.05)


def test_groups_are_the_same_whatever_is_made_beside_them():
    teacher = dense_teacher()
    metadata = TopLayer().collect(teacher, [toy_images()], INPUTS)
    objective = Objective(problem(teacher, metadata, SETTINGS, LATENTS), PLAIN)
    together = reconstruct_groups(objective, [0, 1, 2], Adam(), 0).inputs
    torch.testing.assert_close(reconstruct_groups(objective, [1], Adam(), 0).inputs, together[4:8])


def test_settings():
    assert LATENTS.identity()["directions"] == 5
    for make in (lambda: Latents(directions=1), lambda: Auto(directions=1), lambda: Pixels(start="zeros")):
        with pytest.raises(ConfigError, match="parametrisation"):
            make()
