"""Images that are moved before they are looked at: by what is drawn for their group and step, in every engine, and kept unmoved."""

from dataclasses import replace

import pytest
import torch

from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayers
from dfkd_exp.models.networks import Mlp
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction import Moments
from dfkd_exp.reconstruction.engine import replay
from dfkd_exp.reconstruction.engine.settings import PLAIN, ResolvedEngine
from dfkd_exp.reconstruction.loop import concatenate, reconstruct, reconstruct_groups
from dfkd_exp.reconstruction.moves import draw_moves, moved
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.optimizers import Adam
from tests.toy import problem

SETTINGS = Moments(images_per_class=8, group_size=4, steps=10, shift=2, flip=True)
SHAPES = {"series": (2, 9), "image": (3, 4, 5), "volume": (1, 3, 4, 2)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_group_is_mirrored_and_rolled_as_is_drawn(shape):
    pixels = torch.rand(6, *shape, generator=seeded(), requires_grad=True)
    moves = draw_moves(Moments(shift=3, flip=True), shape, steps=3, generator=seeded(4))
    assert moves[:, -1].unique().tolist() == [0, 1]
    axes = tuple(range(2, pixels.dim()))
    expected = [
        torch.roll(part.flip(-1) if mirrored else part, rolled, axes)
        for part, (*rolled, mirrored) in zip(pixels.unflatten(0, (3, 2)), moves.tolist(), strict=True)
    ]
    found = moved(pixels, moves)
    assert torch.equal(found, torch.cat(expected))
    found.square().sum().backward()
    assert torch.equal(pixels.grad, 2 * pixels.detach()), "each pixel is looked at once"


def test_draws_are_of_all_shifts_and_of_nothing_that_was_not_asked_for():
    drawn = draw_moves(Moments(shift=2), (1, 6, 6), steps=200, generator=seeded())
    assert drawn[:, 0].unique().tolist() == drawn[:, 1].unique().tolist() == [-2, -1, 0, 1, 2]
    assert not drawn[:, 2].any()
    drawn = draw_moves(Moments(flip=True), (1, 6, 6), steps=200, generator=seeded())
    assert not drawn[:, :2].any()
    assert 60 < drawn[:, 2].sum() < 140


def test_nothing_is_drawn_unless_it_is_asked_for(teacher, metadata):
    objective = Objective(problem(teacher, metadata, replace(SETTINGS, shift=0, flip=False)), PLAIN)
    _, target = draw_groups(objective, [0, 1], seed=0)
    assert target.moves is None
    assert all(step is target for step in objective.steps(target, [0, 1], 0, 3))


def test_the_objective_is_that_of_the_moved_images(teacher, metadata):
    objective = Objective(problem(teacher, metadata, SETTINGS), PLAIN)
    values, target = draw_groups(objective, [0, 1], seed=0)
    for step in objective.steps(target, [0, 1], 0, 3):
        losses, gradient = objective(values, step)
        expected, of_moved = objective(moved(values, step.moves), target)
        torch.testing.assert_close(losses, expected)
        torch.testing.assert_close(moved(gradient, step.moves), of_moved)


def made(teacher, metadata, groups, engine=PLAIN, settings=SETTINGS):
    return reconstruct_groups(Objective(problem(teacher, metadata, settings), engine), groups, Adam(), seed=0)


def test_images_are_the_same_whatever_is_made_beside_them(teacher, metadata):
    together = made(teacher, metadata, range(4))
    alone = concatenate([made(teacher, metadata, [group]) for group in range(4)])
    torch.testing.assert_close(alone.pixels, together.pixels, atol=1e-4, rtol=0)
    unmoved = made(teacher, metadata, range(4), settings=replace(SETTINGS, shift=0, flip=False))
    assert not torch.allclose(unmoved.pixels, together.pixels, atol=0.01)


def test_the_images_that_are_kept_are_not_moved(teacher, metadata):
    """One step that changes nothing leaves what they started from; the final losses are those of the images as they are."""
    settings = replace(SETTINGS, steps=1)
    objective = Objective(problem(teacher, metadata, settings), PLAIN)
    values, target = draw_groups(objective, [0, 1], seed=0)
    images = reconstruct_groups(objective, [0, 1], Adam(lr=1e-9), seed=0)
    torch.testing.assert_close(images.pixels, values.clamp(0, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(images.losses[-1], objective(values.clamp(0, 1), target)[0], atol=1e-4, rtol=1e-4)


ENGINES = {
    "blocks": ResolvedEngine("fp32", "blocks", False, 8),
    "channels_last": ResolvedEngine("fp32", "channels_last", False, 8),
    "compiled": pytest.param(ResolvedEngine("fp32", "direct", True, 8), marks=pytest.mark.slow),
}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_engine_moves_them(teacher, metadata, engine):
    plain, other = made(teacher, metadata, [0, 1]), made(teacher, metadata, [0, 1], engine)
    torch.testing.assert_close(other.pixels, plain.pixels, atol=1e-3, rtol=0)


def test_what_was_traced_or_recorded_for_one_step_serves_for_the_others(teacher, metadata, monkeypatch):
    def recorded(run):
        outcome = run()
        return lambda: [kept.copy_(new) for kept, new in zip(outcome, run(), strict=True)], outcome

    monkeypatch.setattr(replay, "record", recorded)
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    objective = Objective(problem(teacher, metadata, SETTINGS), ResolvedEngine("fp32", "direct", True, 8))
    values, target = draw_groups(objective, [0, 1], seed=0)
    built = objective._built
    objective._built = lambda *parts: replay.Replayed(built(*parts))
    plain = Objective(problem(teacher, metadata, SETTINGS), PLAIN)
    for step in (*objective.steps(target, [0, 1], 0, 3), target):
        for one, other in zip(objective(values, step), plain(values, step), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("settings", "flag"), [({"shift": 1}, "shift=1"), ({"flip": True}, "flip=true")])
def test_a_table_has_no_space_to_be_moved_in(settings, flag):
    network = frozen(Mlp((7,), 3, (8,)))
    rows = torch.rand(12, 7, generator=seeded())
    metadata = AllLayers().collect(network, [(rows, torch.arange(12) % 3)], InputSpec((7,), (0.0,) * 7, (1.0,) * 7))
    words = rf"reconstruction\.{flag} moves what has space, and the data's are rows of shape \[7\]; leave it out"
    with pytest.raises(DfkdError, match=words):
        reconstruct(network, metadata, 4, steps=1, **settings)


def test_a_negative_shift_is_refused():
    with pytest.raises(ConfigError, match=r"reconstruction\.shift must be at least 0, got -1"):
        Moments(shift=-1)
