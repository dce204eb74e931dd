"""Images told from each other: the loss and the crops against other ways of computing them, and what is learned and remembered."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.networks import Mlp
from dfkd_exp.reconstruction import Moments
from dfkd_exp.reconstruction.contrast import cropped, info_nce
from dfkd_exp.reconstruction.engine import choose
from dfkd_exp.reconstruction.engine.settings import Engine
from dfkd_exp.reconstruction.learner import Learners
from dfkd_exp.reconstruction.loop import reconstruct
from dfkd_exp.reconstruction.optimizers import Adam
from dfkd_exp.reconstruction.rehearsal import rehearse_reconstruction
from dfkd_exp.reconstruction.terms.contrast import Contrast
from dfkd_exp.reconstruction.terms.term import Candidates
from tests.toy import problem

SHAPE, FEATURES = (1, 4, 5), 6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def transcribed(anchors, keys, temperature):
    """The formula for one image after another."""
    values = []
    for j, anchor in enumerate(anchors):
        similar = [np.exp(anchor @ k / np.linalg.norm(anchor) / np.linalg.norm(k) / temperature) for k in keys]
        values.append(-np.log(similar[j] / sum(similar)))
    return values


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_info_nce_is_its_formula(temperature):
    anchors, keys = torch.randn(4, 3, generator=seeded()), torch.randn(9, 3, generator=seeded(1))
    expected = transcribed(anchors.double().numpy(), keys.double().numpy(), temperature)
    np.testing.assert_allclose(info_nce(anchors, keys, temperature), expected, rtol=1e-4)


def test_a_crop_is_a_part_of_the_image_as_grid_sample_has_it():
    pixels, uniform = torch.rand(8, 3, 6, 5, generator=seeded()), torch.rand(8, 4, generator=seeded(1))
    side = (0.25 + 0.75 * uniform[:, 0]).sqrt()
    down, across = (1 - side) * uniform[:, 1], (1 - side) * uniform[:, 2]  # where a part begins
    theta = torch.zeros(8, 2, 3)
    theta[:, 0, 0] = side * torch.where(uniform[:, 3] < 0.5, -1, 1)
    theta[:, 1, 1] = side
    theta[:, 0, 2], theta[:, 1, 2] = 2 * across + side - 1, 2 * down + side - 1
    grid = F.affine_grid(theta, [8, 3, 6, 5], align_corners=False)
    expected = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(cropped(pixels, uniform, 0.25), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 9), (3, 4, 5), (1, 3, 4, 2)], ids=str)
def test_a_crop_of_all_is_the_image_or_its_mirror_image(shape):
    pixels = torch.rand(4, *shape, generator=seeded(), requires_grad=True)
    uniform = torch.rand(4, len(shape) + 1, generator=seeded(1))
    uniform[:, -1] = torch.tensor([0.0, 0.4, 0.5, 0.9])
    found = cropped(pixels, uniform, smallest=1.0)
    torch.testing.assert_close(found, torch.cat([pixels[:2].flip(-1), pixels[2:]]), atol=1e-5, rtol=0)
    cropped(pixels, uniform, 0.25).sum().backward()
    assert pixels.grad.isfinite().all()
    assert pixels.grad.any()


WEIGHTS = torch.randn(20, FEATURES, generator=seeded(9))


def features_of(pixels):
    """Of some teacher."""
    return (pixels.flatten(1) @ WEIGHTS).tanh()


def candidates(seed=0, count=4):
    pixels = torch.rand(count, *SHAPE, generator=seeded(seed), requires_grad=True)
    labels = torch.arange(count)
    return Candidates(pixels, torch.zeros(count, 3), labels, 2, features=features_of(pixels), features_of=features_of)


def started(**settings):
    return Contrast(**{"dimensions": 3, "bank": 10, **settings}).start(SHAPE, FEATURES, seed=1)


def headed(learner, features):
    """The head, written out."""
    one, _, two = learner.head
    features = features.detach().double().numpy()
    hidden = np.maximum(features @ one.weight.detach().double().numpy().T + one.bias.detach().double().numpy(), 0)
    return hidden @ two.weight.detach().double().numpy().T + two.bias.detach().double().numpy()


def test_it_is_info_nce_of_parts_against_images_and_what_is_remembered():
    learner, before, now = started(), candidates(seed=5), candidates()
    learner.begin_batch(3)
    learner(before)
    learner.after_batch()
    learner.begin_batch(4)
    found = learner(now)
    parts = features_of(cropped(now.pixels, torch.rand(4, 4, generator=seeded(4)), 0.25))
    keys = torch.cat([now.features, before.features])
    np.testing.assert_allclose(
        found.detach(), transcribed(headed(learner, parts), headed(learner, keys), 0.1), rtol=1e-3
    )
    found.sum().backward()
    assert now.pixels.grad.isfinite().all()
    assert now.pixels.grad.any()
    assert all(parameter.grad.any() for parameter in learner.head.parameters())


def test_the_oldest_go_first():
    learner, batches = started(bank=10), [candidates(seed) for seed in range(3)]
    for number, batch in enumerate(batches):
        learner.begin_batch(number)
        learner(batch)
        learner.after_batch()
    latest = torch.cat([batch.features for batch in batches])[-10:]
    assert {tuple(row) for row in learner.bank.tolist()} == {tuple(row) for row in latest.tolist()}
    learner = started(bank=3)
    learner(batches[0])
    learner.after_batch()
    assert {tuple(row) for row in learner.bank.tolist()} == {tuple(row) for row in batches[0].features[1:].tolist()}


@pytest.mark.parametrize(
    ("settings", "count"), [({"negatives": 5}, 5), ({"negatives": 0}, 0), ({"bank": 0}, 0), ({}, 8)]
)
def test_as_many_of_those_remembered_are_told_from_as_is_asked_for(settings, count):
    learner = started(**settings)
    for number in range(2):
        learner(candidates(number))
        learner.after_batch()
    learner.begin_batch(0)
    drawn = learner._remembered()
    assert len({tuple(row) for row in drawn.tolist()}) == count
    assert (drawn != 0).all(), "nothing that was never remembered"


def test_a_head_learns_to_tell_images_apart():
    learner, shown = started(dimensions=16, smallest_crop=0.8), candidates(count=12)
    learners, seen = Learners([learner]), []
    learners.begin_batch(0)
    for _ in range(150):
        loss = learner(shown).mean()
        loss.backward(inputs=list(learner.parameters()))
        learners.step()
        seen.append(loss.item())
    assert np.mean(seen[-20:]) < 0.8 * np.mean(seen[:20])
    assert all(parameter.grad is None for parameter in learner.parameters())


def test_images_that_are_alike_are_drawn_apart():
    learner, start = started(temperature=0.2), 0.5 + 0.01 * torch.randn(6, *SHAPE, generator=seeded())
    pixels = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([pixels], lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        shown = replace(candidates(count=6), pixels=pixels, features=features_of(pixels))
        learner(shown).mean().backward(inputs=[pixels])
        optimizer.step()
    apart = [torch.pdist(features_of(images)).mean().item() for images in (start, pixels.detach())]
    assert apart[1] > 3 * apart[0]


def test_where_images_are_made_in_groups_it_is_refused(teacher, metadata):
    words = r"terms: Contrast learns from batch to batch, .* know nothing of each other; choose source=synthesis"
    with pytest.raises(DfkdError, match=words):
        reconstruct(teacher, metadata, 4, steps=1, terms=[Contrast()])


def test_the_precision_is_chosen_by_what_else_there_is(teacher, metadata, monkeypatch):
    monkeypatch.setattr(choose, "multiplies_bf16", lambda device: True)
    asked = problem(teacher, metadata, Moments(images_per_class=4, group_size=4), terms=[Contrast()])
    assert choose.engine_in_the_loop(Engine(), asked).precision in ("fp32", "bf16")


def test_a_table_has_no_parts_to_be_looked_at():
    inputs = InputSpec((7,), (0.0,) * 7, (1.0,) * 7)
    with pytest.raises(DfkdError, match=r"Contrast looks at parts of what has space, .* rows of shape \[7\]; leave it"):
        rehearse_reconstruction(Adam(), [Contrast()], Mlp((7,), 3, (8,)), inputs, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0},
        {"bank": -1},
        {"negatives": -1},
        {"dimensions": 0},
        {"smallest_crop": 0},
        {"smallest_crop": 1.5},
    ],
    ids=str,
)
def test_wrong_settings_name_the_flag(wrong):
    with pytest.raises(ConfigError, match=rf"terms\.{next(iter(wrong))} must be"):
        Contrast(**wrong)
