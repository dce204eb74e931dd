"""Attacks find members where the images themselves are given away, and nothing where noise is."""

from statistics import NormalDist

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn

from dfkd_exp.evaluation.attacks import attack, confidence_scores, image_scores, metadata_scores, nearest
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayers, SpectralAllLayers
from dfkd_exp.metadata.batch_norm import BatchNormStatistics
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("ties", [False, True])
def test_the_area_and_the_rates_are_scikit_learns(shift, ties):
    members, others = random(700) + shift, random(1000, seed=1)
    if ties:
        members, others = members.round(), others.round()
    found = attack(members, others)
    truth, scores = np.r_[np.ones(700), np.zeros(1000)], torch.cat([members, others]).numpy()
    assert found.auc == pytest.approx(roc_auc_score(truth, scores))
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    for rate, name in ((0.001, "0.1%"), (0.01, "1%")):
        value, low, high = found.true_positives[name]
        assert value == pytest.approx(true[false <= rate].max())
        assert low <= value <= high
    assert found.auc_interval[0] <= found.auc <= found.auc_interval[1]


def test_intervals_hold_the_truth_as_often_as_they_say():
    """For scores that differ by a standard normal's shift of 1, the area is Phi(1 / sqrt 2)."""
    expected = 0.7602
    held = [attack(random(200, seed=2 * s) + 1, random(200, seed=2 * s + 1)).auc_interval for s in range(200)]
    assert 0.90 < np.mean([low <= expected <= high for low, high in held]) <= 1


@pytest.mark.parametrize(("count", "rate"), [(2000, "0.1%"), (500, "1%")])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_of_rates_know_that_their_threshold_hangs_on_a_few_others(count, rate, shift):
    accused = float(rate.rstrip("%")) / 100
    expected = 1 - NormalDist().cdf(NormalDist().inv_cdf(1 - accused) - shift)
    drawn = [[random(count, seed=2 * s + half) for half in (0, 1)] for s in range(150)]
    found = [attack(members + shift, others).true_positives[rate] for members, others in drawn]
    assert np.mean([low <= expected <= high for _, low, high in found]) > 0.91
    if not shift:
        chance = (int(accused * count) + 1) / (count + 1)
        assert np.mean([value for value, _, _ in found]) == pytest.approx(chance, rel=0.15)


def test_who_tells_all_apart_may_still_be_wrong_of_others():
    """With three of each the area may as well be a half: 1 - a is 1.96^2 a (1 + 2 ((1 - a) / (2 - a) + a / (1 + a))) / 9 at 0.501."""
    for count, least in ((3, 0.495), (1000, 0.997)):
        low, high = attack(torch.ones(count), torch.zeros(count)).auc_interval
        assert high == 1
        assert least < low < least + 0.01
        worst = attack(torch.zeros(count), torch.ones(count)).auc_interval
        assert worst == pytest.approx((0, 1 - low))
    assert attack(torch.ones(1), torch.zeros(1)).auc_interval[0] < 0.5
    low, high = attack(torch.ones(50), torch.ones(50)).auc_interval
    assert 0.3 < low < 0.5 < high < 0.7


def test_where_the_images_themselves_are_given_away_members_are_found_and_in_noise_they_are_not():
    members, others = random(300, 1, 6, 6), random(300, 1, 6, 6, seed=1)
    labels = torch.arange(300) % 3
    given, noise = members.clone(), random(300, 1, 6, 6, seed=2)
    pixels = InputSpec((1, 6, 6), (0.0,), (1.0,))
    worst = attack(*(image_scores(images, labels, pixels, given, labels) for images in (members, others)))
    assert worst.auc > 0.999
    assert worst.true_positives["0.1%"][0] > 0.99
    floor = attack(*(image_scores(images, labels, pixels, noise, labels) for images in (members, others)))
    assert floor.auc_interval[0] < 0.5 < floor.auc_interval[1]


def test_records_of_members_give_them_away_and_statistics_of_many_hardly_do():
    teacher, (images, labels) = toy_teacher(), toy_images(40)
    inside, outside = torch.arange(len(labels)) % 2 == 0, torch.arange(len(labels)) % 2 == 1
    scores = {}
    for name, kind in {
        "records": SpectralAllLayers(records_per_class=1000, fraction=1.0),
        "gaussian": AllLayers(covariance="diagonal"),
    }.items():
        metadata = kind.collect(teacher, [(images[inside], labels[inside])], INPUTS).resolved(teacher)
        scores[name] = attack(
            *(metadata_scores(metadata, teacher, images[rows], labels[rows]) for rows in (inside, outside))
        )
    assert scores["records"].auc > 0.99
    assert scores["gaussian"].auc < 0.8


def test_statistics_that_the_teacher_carries_are_asked_like_others():
    """BatchNorm of maps and of vectors, whose values have a single location."""
    images, labels = toy_images(10)
    teacher = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(5), nn.BatchNorm1d(5), nn.Linear(5, CLASSES)
    )
    teacher(images)
    metadata = BatchNormStatistics().collect(teacher.eval(), [(images, labels)], INPUTS).resolved(teacher)
    near, far = (metadata_scores(metadata, teacher, some, labels) for some in (images, 3 + images))
    assert (near > far).all()


def test_an_attack_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr("dfkd_exp.console._SECONDS_BETWEEN_LINES", 0.0)
    images, labels = toy_images(10)
    teacher = toy_teacher()
    metadata_scores(AllLayers().collect(teacher, [(images, labels)], INPUTS).resolved(teacher), teacher, images, labels)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == CLASSES
    assert lines[-1].split(",")[0] == f"  images attacked: {len(images)} of {len(images)}"


def test_a_network_is_surer_of_what_it_was_right_about():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    scores = confidence_scores(logits, torch.tensor([0, 0]))
    assert scores[0] > scores[1]
    torch.testing.assert_close(scores.exp()[0].float(), torch.tensor(2.0).sigmoid())


def test_the_nearest_image_is_the_nearest():
    images, among = random(5, 1, 3, 3), random(9, 1, 3, 3, seed=1)
    distances, which = nearest(images, among)
    expected = (images[:, None] - among[None]).square().mean((2, 3, 4)).sqrt()
    torch.testing.assert_close(distances, expected.min(1).values)
    assert torch.equal(which, expected.argmin(1))
