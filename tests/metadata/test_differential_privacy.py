"""Differential privacy: the noise's deviation, what one image can change, what the file and the card claim."""

import math
import os

import pytest
import torch
from scipy.stats import kstest

from dfkd_exp.errors import ConfigError
from dfkd_exp.metadata import AllLayers, Channels, Composed, Spatial, TopLayer
from dfkd_exp.metadata.differential_privacy import PrivateSums, gaussian_sigma, secret_gaussian
from dfkd_exp.metadata.gaussian import DifferentialPrivacy
from dfkd_exp.metadata.metadata import Metadata
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher

BUDGETS = [(0.1, 1e-5), (1.0, 1e-5), (2.0, 1e-6), (8.0, 1e-5), (20.0, 1e-9), (1.0, 0.3), (60.0, 1e-5)]


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
def test_the_noise_is_the_least_that_keeps_the_claim(epsilon, delta):
    """Against Google's dp-accounting, which computes delta from the privacy loss's distribution."""
    mechanism = pytest.importorskip("dp_accounting.pld.privacy_loss_mechanism")
    sigma = gaussian_sigma(epsilon, delta)
    found = mechanism.GaussianPrivacyLoss(sigma, sensitivity=1).get_delta_for_epsilon(epsilon)
    assert found == pytest.approx(delta, rel=1e-4)
    assert found <= delta * (1 + 1e-9)


@pytest.mark.parametrize("full", [False, True])
def test_replacing_one_image_moves_the_sums_by_their_sensitivity_at_most(full):
    """Also by the worst of images: huge, opposite, and with all they have in one unit."""
    generator = torch.Generator().manual_seed(0)
    spike = torch.zeros(5)
    spike[0] = 1e6
    other = torch.zeros(5)
    other[1] = 1e6
    worst = [spike, other, -spike, torch.zeros(5), *torch.randn(20, 5, generator=generator) * 30]
    farthest = [0.0, 0.0]
    for one in worst:
        for two in worst:
            sums = [PrivateSums(5, 2.0, full) for _ in range(2)]
            for total, image in zip(sums, (one, two), strict=True):
                total.update(image[None, None])
            moved = [(sums[0]._first - sums[1]._first).norm(), (sums[0]._second - sums[1]._second).norm()]
            if full:  # what is released is the lower triangle
                moved[1] = (sums[0]._second - sums[1]._second).tril().norm()
            for index, (distance, allowed) in enumerate(zip(moved, sums[0].sensitivities, strict=True)):
                assert distance <= allowed * (1 + 1e-12)
                farthest[index] = max(farthest[index], float(distance) / allowed)
    assert farthest[0] == pytest.approx(1)
    assert farthest[1] == pytest.approx(1)


def test_without_noise_and_clipping_they_are_the_moments_of_the_class():
    values = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    for full in (False, True):
        sums = PrivateSums(6, 30.0, full)
        sums.update(values[:200, None])
        later = PrivateSums(6, 30.0, full)
        later.update(values[200:, None])
        sums.merge(sums.with_state(later.state()))
        mean, spread = sums.released(0.0)
        torch.testing.assert_close(mean, values.double().mean(0))
        expected = values.double().T.cov(correction=0)
        torch.testing.assert_close(spread, expected if full else expected.diag(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("full", [False, True])
def test_the_noise_has_the_deviation_that_is_said(full):
    sums = PrivateSums(40, 1.0, full)
    sums.count = 1  # so that sums are what is released
    noise = 3.0
    generator = torch.Generator().manual_seed(0)
    mean, _ = sums.released(noise, lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64))
    assert mean.std().item() == pytest.approx(noise * sums.sensitivities[0], rel=0.3)


def test_noise_never_makes_a_variance_negative_or_a_covariance_indefinite():
    sums = PrivateSums(6, 1.0, True)
    sums.update(torch.randn(4, 1, 6))
    _, covariance = sums.released(50.0)
    torch.testing.assert_close(covariance, covariance.T)
    assert torch.linalg.eigvalsh(covariance).min() > 0
    diagonal = PrivateSums(6, 1.0, False)
    diagonal.update(torch.randn(4, 1, 6))
    assert (diagonal.released(50.0)[1] > 0).all()


def private(epsilon, kind=AllLayers, **settings):
    dp = DifferentialPrivacy(epsilon=epsilon, clip=3.0)
    return kind(covariance="top_only", dp=dp, **settings)


@pytest.fixture
def _hardly_any_noise(monkeypatch):
    monkeypatch.setattr("dfkd_exp.metadata.differential_privacy.noise_multiplier", lambda epsilon, delta, layers: 1e-4)


@pytest.mark.usefixtures("_hardly_any_noise")
def test_with_hardly_any_noise_it_is_nearly_what_it_would_be_without(tmp_path):
    teacher, batches = toy_teacher(), [toy_images(2000)]
    plain = AllLayers(covariance="top_only").collect(teacher, batches, INPUTS)
    kept = private(100.0).collect(teacher, batches, INPUTS)
    for one, two in zip(plain.statistics, kept.statistics, strict=True):
        assert type(one.summary) is type(two.summary)
        torch.testing.assert_close(one.summary.mean, two.summary.mean, atol=0.05, rtol=0.05)
        torch.testing.assert_close(one.summary.std(), two.summary.std(), atol=0.1, rtol=0.1)


def test_the_file_says_what_is_claimed_and_noise_is_never_the_same_twice(tmp_path):
    teacher, batches = toy_teacher(), [toy_images(300)]
    one, two = (private(2.0).collect(teacher, batches, INPUTS) for _ in range(2))
    assert not torch.equal(one.statistics[0].summary.mean, two.statistics[0].summary.mean)
    one.save(tmp_path / "m.safetensors")
    claim = Metadata.load(tmp_path / "m.safetensors").kind["dp"]
    assert claim["epsilon"] == 2.0
    assert claim["noise_multiplier"] == pytest.approx(math.sqrt(2 * 3) * gaussian_sigma(2.0, 1e-5))
    assert "replaced by another of its class" in claim["neighbours"]
    plain = AllLayers().collect(teacher, batches, INPUTS)
    assert "dp" not in plain.kind


@pytest.mark.usefixtures("_hardly_any_noise")
def test_collected_in_halves_it_is_one_release():
    teacher, (images, labels) = toy_teacher(), toy_images(400)
    halves = [private(100.0).collector(teacher, INPUTS) for _ in range(2)]
    halves[0].update(images[:200], labels[:200])
    halves[1].update(images[200:], labels[200:])
    halves[0].merge_state(halves[1].state())
    whole = private(100.0).collect(teacher, [(images, labels)], INPUTS)
    for one, two in zip(halves[0].finish().statistics, whole.statistics, strict=True):
        torch.testing.assert_close(one.summary.mean, two.summary.mean, atol=1e-3, rtol=1e-3)
    assert sum(halves[0].finish().counts) == 3 * 400
    assert len(halves[0].finish().counts) == CLASSES


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DifferentialPrivacy(epsilon=0.0), r"metadata\.dp\.epsilon must be positive"),
        (lambda: DifferentialPrivacy(epsilon=1e300), r"metadata\.dp\.epsilon must be positive and at most 100"),
        (lambda: DifferentialPrivacy(epsilon=math.inf), r"metadata\.dp\.epsilon"),
        (lambda: DifferentialPrivacy(epsilon=math.nan), r"metadata\.dp\.epsilon"),
        (lambda: DifferentialPrivacy(epsilon=1.0, delta=0.0), r"metadata\.dp\.delta"),
        (lambda: DifferentialPrivacy(epsilon=1.0, delta=0.9), r"metadata\.dp\.delta must be positive and at most 0.01"),
        (lambda: DifferentialPrivacy(clip=-1.0), r"metadata\.dp\.clip"),
        (
            lambda: AllLayers(covariance="full", dp=DifferentialPrivacy(epsilon=1.0)),
            r"metadata\.covariance must be top_only",
        ),
        (lambda: Channels(scope="all", dp=DifferentialPrivacy(epsilon=1.0)), "metadata.scope=class"),
        (lambda: Spatial(covariance="diagonal", dp=DifferentialPrivacy(epsilon=1.0)), "Gaussians of units"),
        (
            lambda: Composed(covariance="diagonal", summary="records", dp=DifferentialPrivacy(epsilon=1.0)),
            "Gaussians of units",
        ),
    ],
)
def test_what_cannot_be_made_private_is_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_the_range_of_the_images_must_be_given_and_is_not_looked_up_in_them():
    with pytest.raises(ConfigError, match=r"looked up in them.*of collect, inputs"):
        private(1.0).collect(toy_teacher(), [toy_images(30)])


def test_the_top_layer_needs_no_other_covariance():
    kind = TopLayer(dp=DifferentialPrivacy(epsilon=1.0))
    metadata = kind.collect(toy_teacher(), [toy_images(300)], INPUTS)
    assert metadata.statistics[0].summary.form == "full"


def test_the_budget_is_part_of_the_key():
    assert AllLayers(covariance="diagonal", dp=DifferentialPrivacy(epsilon=1.0)).identity()["dp"]["epsilon"] == 1.0


@pytest.mark.parametrize("locations", [1, 7])
def test_replacing_one_image_moves_sums_per_channel_by_their_sensitivity_at_most(locations):
    """Of an image the means over its locations enter, of activations and of squares: the worst of images moves them no further."""
    generator, farthest = torch.Generator().manual_seed(0), [0.0, 0.0]
    spike, other = torch.zeros(2, locations, 5).unbind(0)
    spike[:, 0], other[:, 1] = 1e6, 1e6
    lonely = torch.zeros(locations, 5)
    lonely[0, 0] = 1e9
    worst = [
        spike,
        -spike,
        other,
        lonely,
        torch.zeros_like(spike),
        *torch.randn(12, locations, 5, generator=generator) * 30,
    ]
    for one in worst:
        for two in worst:
            sums = [PrivateSums(5, 2.0, full=False) for _ in range(2)]
            for total, image in zip(sums, (one, two), strict=True):
                total.update(image[None])
            moved = [(sums[0]._first - sums[1]._first).norm(), (sums[0]._second - sums[1]._second).norm()]
            for index, (distance, allowed) in enumerate(zip(moved, sums[0].sensitivities, strict=True)):
                assert distance <= allowed * (1 + 1e-12)
                farthest[index] = max(farthest[index], float(distance) / allowed)
    assert farthest == [pytest.approx(1), pytest.approx(1)]


@pytest.mark.usefixtures("_hardly_any_noise")
def test_private_channels_with_hardly_any_noise_are_nearly_what_they_would_be_without():
    teacher, batches = toy_teacher(), [toy_images(2000)]
    plain = Channels().collect(teacher, batches, INPUTS)
    kept = Channels(dp=DifferentialPrivacy(epsilon=100.0, clip=3.0)).collect(teacher, batches, INPUTS)
    for one, two in zip(plain.statistics, kept.statistics, strict=True):
        assert (one.basis, one.summary.form) == (two.basis, two.summary.form)
        torch.testing.assert_close(one.summary.mean, two.summary.mean, atol=0.05, rtol=0.05)
        torch.testing.assert_close(one.summary.std(), two.summary.std(), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(("delta", "fine"), [(1e-3, True), (1 / 900, False), (0.01, False)])
def test_a_delta_of_one_image_or_more_claims_nothing(delta, fine):
    kind = AllLayers(covariance="top_only", dp=DifferentialPrivacy(epsilon=1.0, delta=delta))
    if fine:
        kind.check_images(900)
        return
    with pytest.raises(
        ConfigError, match=r"metadata.dp.delta must be below 1 / images, which is 0.0011 for 900 images"
    ):
        kind.collect(toy_teacher(), [toy_images(300)], INPUTS)


def test_without_a_claim_there_is_nothing_to_check():
    AllLayers(dp=DifferentialPrivacy(delta=0.01)).check_images(10**9)


def test_the_noise_is_gaussian():
    drawn = secret_gaussian(torch.Size([200, 500]))
    assert drawn.shape == (200, 500)
    assert drawn.dtype == torch.float64
    assert kstest(drawn.flatten(), "norm").pvalue > 1e-6


@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
def test_no_bits_make_it_infinite(monkeypatch, byte):
    monkeypatch.setattr(os, "urandom", lambda count: byte * count)
    [drawn] = secret_gaussian(torch.Size([1]))
    assert 8 < drawn.abs() < 9


def test_each_number_of_the_noise_has_bits_of_the_system_of_its_own(monkeypatch):
    """A seed of so many bits could be tried: torch's generator of a CPU takes 32 of any."""
    asked = []
    urandom = os.urandom
    monkeypatch.setattr(os, "urandom", lambda count: asked.append(count) or urandom(count))
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        draws.append(secret_gaussian(torch.Size([4])))
    assert asked == [32, 32]
    assert not torch.equal(*draws)


def test_by_the_command_and_on_the_card(dfkd, tmp_path):
    release = tmp_path / "release"
    ran = dfkd("pipeline=release", f"release={release}", "metadata=all_layers_diagonal", "metadata.dp.epsilon=8")
    assert ran.code == 0, ran.err
    card = (release / "README.md").read_text()
    assert "epsilon 8, delta 1e-05" in card
    assert "not the network's weights" in card.replace("\n ", "")
    assert "no differential privacy is claimed" not in card
    wrong = dfkd("metadata.dp.epslon=3")
    assert wrong.code == 2
    assert "metadata.dp" in wrong.err
