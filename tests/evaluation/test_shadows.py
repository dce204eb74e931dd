"""The attack by shadows finds what there is to be found, as much as can be, and nothing where there is nothing."""

import math
import statistics
from itertools import groupby

import pytest
import torch
from torch.distributions import Normal

from dfkd_exp.evaluation import tracing
from dfkd_exp.evaluation.attacks import by_class, confidence_logits, confidence_scores
from dfkd_exp.evaluation.shadows import attack_on_shadows, halves, likelihood_ratios
from dfkd_exp.evaluation.tracing import tracing_scores
from dfkd_exp.metadata import AllLayers, BatchNormStatistics, Channels, Composed, Spatial, SpectralAllLayers, matchable
from dfkd_exp.metadata.gaussian import DifferentialPrivacy
from tests.toy import CLASSES, INPUTS, normalised_teacher, toy_images, toy_teacher

IMAGES, SHADOWS = 1_000, 8


def found(generator, shift, scores=3, images=IMAGES, shadows=SHADOWS):
    """What the attack achieves where an image's scores lie about a mean of its own with deviation 1, ``shift[N, S]`` higher if it is in;
    those of a class move together."""
    labels = torch.arange(images) % 5
    inside = halves(labels, shadows, generator)
    own, noise = (
        5 * torch.randn(images, scores, generator=generator),
        torch.randn(shadows, images, scores, generator=generator),
    )
    together = torch.randn(shadows, 5, scores, generator=generator)[:, labels]
    drawn = own + noise + together + inside[..., None] * shift
    return attack_on_shadows(likelihood_ratios(drawn, inside, labels), inside)


def test_more_shadows_are_more_of_the_same():
    labels = torch.arange(30) % 3
    many = halves(labels, 8, torch.Generator().manual_seed(0))
    for fewer in (3, 4):
        assert torch.equal(halves(labels, fewer, torch.Generator().manual_seed(0)), many[:fewer])


def test_halves_are_halves_of_each_class_and_every_image_is_in_as_many_as_not():
    labels = torch.tensor([0] * 10 + [1] * 7 + [3])
    inside = halves(labels, 6, torch.Generator().manual_seed(0))
    assert (inside.sum(0) == 3).all()
    assert torch.equal(inside[1::2], ~inside[::2])
    assert {int(inside[k, :10].sum()) for k in range(6)} == {5}
    assert {int(inside[k, 10:17].sum()) for k in range(6)} == {3, 4}
    assert len({tuple(row.tolist()) for row in inside}) == 6


@pytest.mark.parametrize("strength", [0.2, 0.5, 2.0])
def test_it_finds_nearly_as_much_as_who_knows_the_distributions(strength):
    """Gaussians whose means are d apart are told apart with an area of Phi(d / sqrt 2)."""
    shift = torch.full((IMAGES, 3), strength)
    best = float(Normal(0, 1).cdf(shift[0].norm() / 2**0.5))
    attack = found(torch.Generator().manual_seed(0), shift)
    assert best - 0.04 < attack.auc < best + 0.02
    assert attack.auc_interval[0] <= attack.auc <= attack.auc_interval[1]


def test_images_whose_own_scores_change_more_are_told_by_that():
    """Half of them change by 3, half not at all: who knew which would have an area of 0.88 over all; what is the same for all, 0.66."""
    shift = torch.zeros(IMAGES, 1)
    shift[::2] = 3
    assert found(torch.Generator().manual_seed(0), shift, scores=1, shadows=16).auc > 0.70


def test_where_there_is_nothing_it_finds_nothing():
    generator = torch.Generator().manual_seed(0)
    attacks = [found(generator, torch.zeros(IMAGES, 3), shadows=6) for _ in range(40)]
    assert abs(statistics.fmean(attack.auc for attack in attacks) - 0.5) < 0.005
    assert statistics.fmean(low <= 0.5 <= high for low, high in (attack.auc_interval for attack in attacks)) > 0.8


def test_scores_that_membership_does_not_change_are_at_chance_to_the_last_digit():
    labels = torch.arange(60) % 3
    inside = halves(labels, 6, torch.Generator().manual_seed(0))
    scores = torch.randn(60, 2).expand(6, 60, 2)
    found = attack_on_shadows(likelihood_ratios(scores, inside, labels), inside)
    assert found.auc == 0.5
    assert found.auc_interval[0] < 0.4 < 0.6 < found.auc_interval[1], "of thirty members, and as many others"
    rate, _, high = found.true_positives["1%"]
    assert rate == 0 < 0.1 < high


def traces(kind, images, labels, teacher, outsiders=0):
    """Scores by tracing alone on metadata of ``kind`` of six halves, and who is in which; of ``outsiders`` the attacker knows nothing."""
    inside = halves(labels, 6, torch.Generator().manual_seed(0))
    metadata = [kind.collect(teacher, [(images[rows], labels[rows])], INPUTS).resolved(teacher) for rows in inside]
    known = torch.arange(len(labels)) >= outsiders
    scores = tracing_scores(metadata, teacher, images[known], labels[known])
    assert scores.shape[:2] == (6, int(known.sum()))
    return scores, inside[:, known], labels[known]


def shadowed(kind, images, labels, teacher, outsiders=0):
    """What the attack achieves with those."""
    scores, inside, labels = traces(kind, images, labels, teacher, outsiders)
    return attack_on_shadows(likelihood_ratios(scores, inside, labels), inside)


def test_means_of_fewer_images_than_numbers_give_them_all_away_and_of_more_less():
    teacher = toy_teacher()
    wide, narrow = AllLayers(covariance="diagonal"), AllLayers(covariance="diagonal", layers="top")
    few, many = toy_images(20), toy_images(400)
    assert shadowed(wide, *few, teacher).auc > 0.99
    assert shadowed(narrow, *many, teacher).auc < 0.65
    assert shadowed(wide, *few, teacher, outsiders=30).auc > 0.6, "half of the candidates are enough"


def test_covariances_that_are_published_give_away_more_than_what_lies_on_their_diagonals():
    teacher, many = toy_teacher(), toy_images(200)
    own, between = (shadowed(AllLayers(covariance=form), *many, teacher).auc for form in ("diagonal", "full"))
    assert own < 0.9
    assert between > 0.99


def test_statistics_of_all_classes_together_are_traced_with_the_images_of_all():
    kind = Channels(grid=4, scope="all", covariance="diagonal")
    assert shadowed(kind, *toy_images(20), normalised_teacher()).auc > 0.99


def test_no_more_numbers_are_traced_than_there_is_room_for(monkeypatch):
    few = toy_images(20)
    whole = shadowed(AllLayers(covariance="diagonal"), *few, toy_teacher()).auc
    monkeypatch.setattr(tracing, "ROOM", 20 * 3 * 20)
    part = shadowed(AllLayers(covariance="diagonal"), *few, toy_teacher()).auc
    assert 0.55 < part < whole


def test_what_is_no_sum_over_images_or_is_of_none_is_not_traced():
    records = SpectralAllLayers(records_per_class=5, fraction=1.0)
    assert traces(records, *toy_images(20), toy_teacher())[0].shape == (6, 60, 0)
    assert traces(BatchNormStatistics(), *toy_images(20), normalised_teacher())[0].shape == (6, 60, 0)


def test_noise_of_differential_privacy_hides_them():
    images, labels = toy_images(20)
    private = AllLayers(covariance="diagonal", dp=DifferentialPrivacy(epsilon=1.0))
    assert shadowed(private, images, labels, toy_teacher()).auc < 0.6


SUMMED = {
    "moments": AllLayers(covariance="diagonal"),
    "covariances": AllLayers(covariance="full"),
    "low rank": AllLayers(covariance="low_rank", rank=2),
    "maps": Spatial(rank=36),
    "channels": Channels(styles=1, grid=2),
    "covariances of channels": Channels(covariance="full"),
    "all classes": Channels(scope="all"),
    "in a basis": Composed(basis="all_layers", covariance="full"),
    "few frequencies": Composed(basis="layer_pairs", covariance="full", graph_rank=3),
}


@pytest.mark.parametrize("name", SUMMED)
def test_the_shares_of_all_images_make_up_what_was_published(name):
    """Of a low rank covariances are not what images add up to, but means and mean squares are; of space and channels apart, means alone."""
    teacher, (images, labels) = normalised_teacher(), toy_images(200)
    metadata = SUMMED[name].collect(teacher, [(images, labels)], INPUTS).resolved(teacher)
    parts_of = {"low rank": lambda sums: sums[:1], "maps": lambda sums: [sums[0][:, sums[0][1] > sums[0][0]]]}.get(
        name, list
    )
    rows = torch.zeros_like(labels) if name == "all classes" else labels
    seen = 0
    for row, parts in groupby(by_class(metadata, teacher, images, rows), key=lambda part: part[0]):
        activations = [torch.cat(each) for each in zip(*(part[2] for part in parts), strict=True)]
        for statistic in metadata.statistics:
            if (statistic.scope == "all") != (name == "all classes"):
                continue
            for products in parts_of(statistic.sums(10_000)):
                shares, total = statistic.shares(activations, products), statistic.total(row, products)
                torch.testing.assert_close(shares.double().mean(0), total, rtol=0.02, atol=0.01)
                seen += 1
    assert seen >= (1 if name == "all classes" else 2 * CLASSES)


def test_a_student_that_is_certain_is_told_from_one_that_is_more_so():
    logits = torch.tensor([[60.0, 0.0, 0.0], [90.0, 0.0, 0.0], [0.0, 1.0, 3.0]])
    found = confidence_logits(logits, torch.tensor([0, 0, 2]))
    torch.testing.assert_close(found[:2], torch.tensor([60.0, 90.0]).double() - math.log(2))
    torch.testing.assert_close(found[2], confidence_scores(logits, torch.tensor([0, 0, 2])).exp()[2].logit())


def test_pairs_of_values_are_drawn_once_each():
    for most in (100, 4_949, 4_950):
        pairs = matchable._pairs(100, most, torch.Generator().manual_seed(0))
        assert (pairs[0] > pairs[1]).all()
        assert pairs.min() == 0
        assert pairs.max() == 99 if most > 1_000 else pairs.max() <= 99
        assert len(pairs.unique(dim=1).T) == pairs.shape[1] > 0.8 * most
    assert matchable._pairs(1, 10, torch.Generator()).shape == (2, 0)
    large = matchable._pairs(200_000, 1_000, torch.Generator().manual_seed(0))
    assert (large[0] > large[1]).all()
    assert large.min() >= 0
    assert large[0].max() < 200_000
