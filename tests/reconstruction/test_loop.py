"""The inner loop: same images in any batches, their start, their bounds, their priors; the teacher is left alone."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayers, Channels
from dfkd_exp.metadata.nothing import Nothing
from dfkd_exp.models.recording import frozen, weights_digest
from dfkd_exp.reconstruction import Moments, Sample
from dfkd_exp.reconstruction.engine.settings import PLAIN, ResolvedEngine
from dfkd_exp.reconstruction.loop import concatenate, reconstruct, reconstruct_groups
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.optimizers import Adam, Sgd
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.problem import Problem
from dfkd_exp.reconstruction.rehearsal import rehearse_reconstruction
from dfkd_exp.reconstruction.terms.class_impression import ClassImpression
from dfkd_exp.reconstruction.terms.l2 import L2
from dfkd_exp.reconstruction.terms.term import Candidates
from dfkd_exp.reconstruction.terms.total_variation import TotalVariation
from tests.models.architectures import Rows
from tests.toy import CLASSES, INPUTS, problem, toy_images, toy_teacher


def total_variation(images):
    return TotalVariation()(Candidates(images, torch.empty(0), torch.empty(0)))


FIRST_STEP_ONLY = {"steps": 1, "optimizer": Adam(lr=1e-9)}


def make(teacher, metadata, groups, match=Moments, seed=0, optimizer=None, made_of=None, terms=(), **settings):
    chosen = match(**{"images_per_class": 8, "group_size": 4, "steps": 10} | settings)
    asked = problem(teacher, metadata, chosen, made_of or Pixels(), terms)
    return reconstruct_groups(Objective(asked, PLAIN), groups, optimizer or Adam(), seed)


@pytest.mark.parametrize("match", [Moments, Sample])
@pytest.mark.parametrize("optimizer", [Adam(), Sgd()], ids=["adam", "sgd"])
def test_images_are_the_same_whatever_is_made_beside_them(teacher, metadata, match, optimizer):
    together = make(teacher, metadata, range(6), match, optimizer=optimizer)
    alone = concatenate([make(teacher, metadata, [group], match, optimizer=optimizer) for group in range(6)])
    backwards = make(teacher, metadata, [5, 4, 3, 2, 1, 0], match, optimizer=optimizer)
    torch.testing.assert_close(alone.inputs, together.inputs, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        backwards.inputs.unflatten(0, (6, 4)).flip(0).flatten(0, 1), together.inputs, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(alone.losses, together.losses, atol=1e-4, rtol=1e-4)
    assert torch.equal(alone.labels, together.labels)


def test_what_terms_draw_is_a_groups_own(teacher, metadata):
    """Of other groups beside it, and with another term that draws."""
    impression, other = ClassImpression(temperature=2.0), ClassImpression(weight=0.0)
    together = make(teacher, metadata, range(3), terms=[impression])
    alone = make(teacher, metadata, [1], terms=[impression, other])
    torch.testing.assert_close(alone.inputs, together.inputs[4:8], atol=1e-4, rtol=0)


def test_class_impressions_are_what_the_teacher_is_as_unsure_of_as_was_drawn(teacher):
    metadata = Nothing().collect(teacher, [], INPUTS)
    objective = Objective(
        problem(teacher, metadata, Moments(images_per_class=4, group_size=4), Pixels(), [ClassImpression()]), PLAIN
    )
    _, target = draw_groups(objective, range(3), seed=0)
    impression = ClassImpression(temperature=0.05)  # the toy teacher's logits hardly differ
    images = make(
        teacher, metadata, range(3), terms=[impression], steps=150, optimizer=Adam(lr=0.05), images_per_class=4
    )
    soft = (teacher(images.inputs) / 0.05).softmax(1)
    wanted = target.drawn[0].flatten(0, 1)
    assert (soft - wanted).abs().mean() < 0.5 * (wanted - wanted.mean(0)).abs().mean()


def test_a_last_layer_without_weights_of_classes_is_refused(teacher):
    pooling = nn.Sequential(nn.Conv2d(1, CLASSES, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(DfkdError, match=r"terms: the teacher's last layer, 0, has no weights of shape \[3, 36\]"):
        rehearse_reconstruction(Adam(), [ClassImpression()], pooling, INPUTS, CLASSES)


def test_the_size_of_a_batch_does_not_change_the_images(teacher, metadata):
    whole, parts = (
        reconstruct(teacher, metadata, 8, steps=5, group_size=2, engine=replace(PLAIN, images_per_batch=n))
        for n in (1000, 5)
    )
    torch.testing.assert_close(whole.inputs, parts.inputs, atol=1e-4, rtol=0)
    assert torch.equal(whole.labels, parts.labels)


def test_seed_and_group_decide_the_images(teacher, metadata):
    first, again = make(teacher, metadata, [0, 3]), make(teacher, metadata, [0, 3])
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.allclose(first.inputs[:4], first.inputs[4:], atol=0.01)  # two groups of one class
    assert not torch.allclose(first.inputs, make(teacher, metadata, [0, 3], seed=1).inputs, atol=0.01)


def test_every_class_gets_its_images_in_turn(teacher, metadata):
    images = reconstruct(teacher, metadata, per_class=6, group_size=3, steps=1)
    assert images.inputs.shape == (18, 1, 6, 6)
    assert images.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [0] * 3 + [1] * 3 + [2] * 3
    assert len(images) == 18
    resolved = metadata.resolved(teacher)
    assert [resolved.group_labels(group, 2).tolist() for group in range(4)] == [[0, 0], [1, 1], [2, 2], [0, 0]]


def test_a_group_of_fewer_images_than_classes_has_some_of_all_the_list():
    """And not neighbours in it, which are often alike."""
    teacher = frozen(nn.Sequential(nn.Flatten(), nn.Linear(36, 1000)))
    resolved = (
        Nothing().collect(teacher, [(toy_images()[0], torch.arange(len(toy_images()[0])))], INPUTS).resolved(teacher)
    )
    groups = torch.stack([resolved.group_labels(group, 100) for group in range(10)])
    assert groups.flatten().sort().values.tolist() == list(range(1000)), "each class has its turn"
    assert all(len((group // 100).unique()) > 7 for group in groups)


def test_a_group_that_is_to_match_statistics_of_all_classes_is_of_all_classes(teacher):
    metadata = Channels(scope="all").collect(teacher, [toy_images()], INPUTS)
    images = reconstruct(teacher, metadata, per_class=10, group_size=5, steps=1)
    assert images.labels.tolist() == [index % CLASSES for index in range(30)]
    assert images.labels.bincount().tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("classes", "most", "images", "sizes"),
    [
        (2, None, 35, [2, 2, 2, 2]),  # four equal batches rather than 3, 3 and 2
        (2, None, 20, [2, 2, 2, 2]),
        (2, 1, 35, [1] * 8),
        (2, 3, 1000, [2, 2, 2, 2]),
        (2, None, 1000, [8]),
        (1, None, 5, [1, 1, 1, 1]),  # a group is the atom
        (7, None, 60, [6, 6, 6, 6, 4]),  # five or six are never equal
        (13, None, 150, [13, 13, 13, 13]),
    ],
)
def test_batches_are_equal_and_hold_every_group_once(teacher, metadata, classes, most, images, sizes):
    settings = Moments(images_per_class=40, group_size=10)
    resolved = replace(metadata.resolved(teacher), num_classes=classes)
    asked = Problem(teacher, resolved, settings, most_at_once=most)
    batches = asked.batches(images)
    assert [len(batch) for batch in batches] == sizes
    assert [group for batch in batches for group in batch] == list(range(4 * classes))
    engine = asked.fitted(replace(PLAIN, images_per_batch=images))
    assert engine.images_per_batch == 10 * sizes[0]
    assert asked.batches(engine.images_per_batch) == batches, "what was measured is used"


@pytest.mark.parametrize(("mean", "std"), [(0.15, 0.1), (0.44, 0.29)])
def test_pixels_start_as_gaussian_noise(teacher, metadata, mean, std):
    start = reconstruct(
        teacher, metadata, 200, parametrisation=Pixels(init_mean=mean, init_std=std, clamp=False), **FIRST_STEP_ONLY
    ).inputs
    assert start.mean().item() == pytest.approx(mean, abs=5 * std / start.numel() ** 0.5)
    assert start.std().item() == pytest.approx(std, rel=5 / start.numel() ** 0.5)
    standard = (start - mean) / std
    assert standard.pow(4).mean().item() == pytest.approx(3, abs=0.3)
    assert len(start.flatten(1).unique(dim=0)) == len(start)


def test_images_start_as_what_a_teacher_of_normalised_inputs_takes_for_noise(teacher):
    """Of mean 0 and deviation 1 as it takes them, whatever these are as pixels; unless it is said otherwise."""
    inputs = InputSpec.normalised(INPUTS.shape, [0.4], [0.2])
    metadata = AllLayers().collect(teacher, [((toy_images()[0] - 0.4) / 0.2, toy_images()[1])], inputs)
    start = reconstruct(teacher, metadata, 200, parametrisation=Pixels(clamp=False), **FIRST_STEP_ONLY).inputs
    assert (start.mean().item(), start.std().item()) == pytest.approx((0, 1), abs=0.02)
    said = Pixels(init_mean=0.5, init_std=0.1, clamp=False)
    start = reconstruct(teacher, metadata, 200, parametrisation=said, **FIRST_STEP_ONLY).inputs
    assert (start.mean().item(), start.std().item()) == pytest.approx((0.5, 0.5), abs=0.02)


def test_the_start_is_one_of_pixels_whatever_the_network_is_fed(teacher):
    wide = InputSpec(INPUTS.shape, (1.0,), (5.0,))
    metadata = AllLayers().collect(teacher, [(toy_images()[0] * 4 + 1, toy_images()[1])], wide)
    start = reconstruct(teacher, metadata, 200, parametrisation=Pixels(clamp=False), **FIRST_STEP_ONLY).inputs
    assert start.mean().item() == pytest.approx(1 + 4 * 0.15, abs=0.01)
    assert start.std().item() == pytest.approx(4 * 0.1, abs=0.01)
    fitted = reconstruct(teacher, metadata, 4, steps=20, optimizer=Adam(lr=0.5)).inputs
    assert (fitted.min().item(), fitted.max().item()) == pytest.approx((1, 5))


def test_clamping_keeps_pixels_in_range(teacher, metadata):
    eager = {"steps": 10, "optimizer": Adam(lr=0.5)}
    free = reconstruct(teacher, metadata, 4, parametrisation=Pixels(clamp=False), **eager).inputs
    kept = reconstruct(teacher, metadata, 4, **eager).inputs
    assert free.min() < -0.1
    assert free.max() > 1.1
    assert (kept.min(), kept.max()) == (0, 1)


@pytest.mark.parametrize(
    ("prior", "roughness"),
    [
        ({"terms": [TotalVariation(weight=10.0)]}, total_variation),
        ({"parametrisation": Pixels(blur_sigma=1.0, blur_every=2)}, total_variation),
        ({"terms": [L2(weight=50.0)]}, lambda images: images.square().mean((1, 2, 3))),
    ],
    ids=["total_variation", "blur", "l2"],
)
def test_a_prior_does_what_it_says(teacher, metadata, prior, roughness):
    plain, smooth = (reconstruct(teacher, metadata, 8, steps=40, **settings) for settings in ({}, prior))
    assert roughness(smooth.inputs).mean() < 0.8 * roughness(plain.inputs).mean()


def test_priors_enter_the_loss_with_their_weights(teacher, metadata):
    still = {"steps": 1, "made_of": Pixels(clamp=False), "optimizer": Adam(lr=1e-9)}
    plain = make(teacher, metadata, [0, 1], **still)
    weighted = make(teacher, metadata, [0, 1], terms=[TotalVariation(weight=2.0), L2(weight=3.0)], **still)
    start = plain.inputs
    expected = 2 * total_variation(start).view(2, 4).mean(1) + 3 * start.square().view(2, -1).mean(1)
    torch.testing.assert_close(weighted.losses[0] - plain.losses[0], expected, atol=1e-4, rtol=1e-4)


def test_the_match_enters_the_loss_with_its_weight(teacher, metadata):
    still = {"steps": 1, "made_of": Pixels(clamp=False), "optimizer": Adam(lr=1e-9), "terms": [L2(weight=3.0)]}
    once, thrice = (make(teacher, metadata, [0, 1], **still, match_weight=weight) for weight in (1.0, 3.0))
    of_term = 3 * once.inputs.square().flatten(1).mean(1).view(2, 4).mean(1)
    torch.testing.assert_close(thrice.losses[0] - of_term, 3 * (once.losses[0] - of_term), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_follows_its_schedule(teacher, metadata, schedule):
    seen = []

    class Watched(Sgd):
        def build(self, pixels):
            stepper = super().build(pixels)
            stepper.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
            return stepper

    make(teacher, metadata, [0], optimizer=Watched(lr=2.0), steps=8, schedule=schedule)
    cosine = [1 + math.cos(math.pi * step / 8) for step in range(8)]
    assert seen == pytest.approx(cosine if schedule == "cosine" else [2.0] * 8)


@pytest.mark.parametrize(("steps", "moments"), [(1, 2), (10, 11), (25, 14), (40, 11)])
def test_losses_are_kept_ten_times_on_the_way_and_at_the_end(teacher, metadata, steps, moments):
    losses = make(teacher, metadata, [0, 1], steps=steps).losses
    assert losses.shape == (moments, 2)
    assert losses.isfinite().all()


def test_progress_counts_image_steps(teacher, metadata):
    counted = []
    settings = Moments(images_per_class=4, group_size=4, steps=7)
    reconstruct_groups(Objective(problem(teacher, metadata, settings), PLAIN), [0, 1], Adam(), 0, counted.append)
    assert counted == [8] * 7


def test_the_teacher_is_left_as_it_was(metadata):
    teacher = toy_teacher()
    before = weights_digest(teacher)
    reconstruct(teacher, metadata, 4, steps=3)
    assert weights_digest(teacher) == before
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert sum(len(module._forward_hooks) for module in teacher.modules()) == 0


def test_running_statistics_of_the_teacher_are_left_as_they_were():
    teacher = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, CLASSES)).train()
    metadata = AllLayers().collect(teacher, [toy_images()], INPUTS)
    before = weights_digest(teacher)
    reconstruct(teacher.train(), metadata, 4, steps=3)
    assert weights_digest(teacher) == before


def test_images_are_of_the_class_that_they_were_made_for(teacher, metadata):
    images = reconstruct(teacher, metadata, 20, steps=100)
    real, labels = toy_images()
    with torch.no_grad():
        wanted = torch.stack([teacher(real[labels == k]).mean(0) for k in range(CLASSES)])
        got = torch.stack([teacher(images.inputs[images.labels == k]).mean(0) for k in range(CLASSES)])
    assert torch.cdist(got, wanted).argmin(1).tolist() == [0, 1, 2]
    assert images.losses[-1].mean() < 0.5 * images.losses[0].mean()


def test_metadata_of_another_teacher_is_refused(metadata):
    with pytest.raises(DfkdError, match="belongs to another teacher"):
        reconstruct(toy_teacher(seed=1), metadata)


def test_an_unknown_match_or_setting_is_refused(teacher, metadata):
    with pytest.raises(
        DfkdError, match=r"match must be one of moments, sample, got 'moment' \(did you mean moments\?\)"
    ):
        reconstruct(teacher, metadata, match="moment")
    with pytest.raises(ConfigError, match=r"reconstruction.images_per_class must be a multiple of .*=4, got 6"):
        reconstruct(teacher, metadata, per_class=6, group_size=4)
    with pytest.raises(ConfigError, match=r"reconstruction.group_size must be at least 2"):
        reconstruct(teacher, metadata, per_class=1)


@pytest.mark.parametrize(("per_class", "group_size"), [(500, 100), (64, 64), (210, 70), (7, 7), (101, 101), (202, 202)])
def test_the_group_size_is_a_divisor_as_large_as_may_be(teacher, metadata, per_class, group_size):
    groups = reconstruct(teacher, metadata, per_class, match="sample", steps=1).losses.shape[1]
    assert groups == CLASSES * per_class / group_size


def test_the_gradient_may_lie_in_memory_as_it_likes():
    """Fused optimisers read it as if it lay as the pixels do; with channels last, or of a network that begins with a transpose, it does
    not."""
    inputs = InputSpec((3, 5, 4), (0.0,) * 3, (1.0,) * 3)
    images = torch.rand(30, *inputs.shape, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, CLASSES)).eval()
    metadata = AllLayers().collect(network, [(images, torch.arange(30) % CLASSES)], inputs)
    plain, last = (
        reconstruct(network, metadata, 4, steps=5, engine=engine)
        for engine in (PLAIN, ResolvedEngine(convolutions="channels_last"))
    )
    torch.testing.assert_close(plain.pixels, last.pixels, atol=1e-4, rtol=0)
    recurrent = Rows().eval()
    losses = reconstruct(
        recurrent, AllLayers().collect(recurrent, [toy_images()], INPUTS), 10, steps=20, engine=PLAIN
    ).losses
    assert (losses[-1] < losses[0] / 2).all()


def test_images_beyond_all_numbers_are_an_error_of_the_library_too(teacher, metadata):
    with pytest.raises(DfkdError, match=r"the reconstruction diverged; lower optimizer.lr \(now 1e\+06\)"):
        reconstruct(
            teacher,
            metadata,
            4,
            steps=60,
            schedule="constant",
            optimizer=Sgd(lr=1e6),
            parametrisation=Pixels(clamp=False),
        )
