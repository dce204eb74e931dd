"""Stopping early: a group ends when its own loss no longer falls, and its images are those of that moment."""

from dataclasses import replace

import pytest
import torch

from dfkd_exp.errors import ConfigError
from dfkd_exp.reconstruction import Moments
from dfkd_exp.reconstruction.engine.settings import PLAIN
from dfkd_exp.reconstruction.loop import concatenate, reconstruct_groups
from dfkd_exp.reconstruction.objective import Objective
from dfkd_exp.reconstruction.optimizers import Adam, Lbfgs
from dfkd_exp.reconstruction.stopping import Stopping
from tests.toy import problem

SETTINGS = Moments(images_per_class=8, group_size=4, steps=200, schedule="constant", tolerance=0.1, patience=10)


def make(teacher, metadata, groups, settings=SETTINGS, optimizer=None, on_step=lambda images: None):
    return reconstruct_groups(
        Objective(problem(teacher, metadata, settings), PLAIN), groups, optimizer or Adam(), 0, on_step
    )


@pytest.fixture(scope="module")
def together(teacher, metadata):
    return make(teacher, metadata, range(6))


def test_groups_end_at_different_times_and_before_the_last_step(together):
    assert together.steps.shape == (6,)
    assert len(together.steps.unique()) > 1
    assert together.steps.max() < 200
    assert ((together.steps - 1) % 10 == 0).all()


def test_images_are_the_same_whatever_is_made_beside_them(teacher, metadata, together):
    alone = concatenate([make(teacher, metadata, [group]) for group in range(6)])
    assert torch.equal(alone.steps, together.steps)
    torch.testing.assert_close(alone.inputs, together.inputs, atol=1e-3, rtol=0)
    torch.testing.assert_close(alone.losses, together.losses, atol=1e-3, rtol=1e-3)


def test_a_groups_images_are_those_that_so_many_steps_make(teacher, metadata, together):
    for group, steps in enumerate(together.steps.tolist()):
        short = make(teacher, metadata, [group], replace(SETTINGS, steps=steps, tolerance=0.0))
        torch.testing.assert_close(short.inputs, together.inputs[4 * group : 4 * group + 4], atol=1e-3, rtol=0)
        torch.testing.assert_close(short.losses[-1], together.losses[-1, group : group + 1], atol=1e-3, rtol=1e-3)


def test_it_ends_where_the_loss_has_fallen_by_no_more_than_the_tolerance(teacher, metadata, together):
    whole = make(teacher, metadata, range(6), replace(SETTINGS, tolerance=0.0, steps=100)).losses  # every tenth step
    for group, steps in enumerate(together.steps.tolist()):
        looked_at = whole[: (steps - 1) // 10 + 1, group]
        stalled = looked_at[1:] >= 0.9 * looked_at[:-1]
        assert stalled[-1]
        assert not stalled[:-1].any()


def test_losses_are_as_many_as_ever_and_stay_at_the_last_of_each_group(teacher, metadata, together):
    whole = make(teacher, metadata, range(6), replace(SETTINGS, tolerance=0.0))
    assert together.losses.shape == whole.losses.shape == (11, 6)
    for group, steps in enumerate(together.steps.tolist()):
        made = (steps - 1) // 20 + 1
        torch.testing.assert_close(together.losses[:made, group], whole.losses[:made, group], atol=1e-3, rtol=1e-3)
        assert (together.losses[made:, group] == together.losses[-1, group]).all()
    assert (whole.steps == 200).all()


def test_progress_ends_at_a_hundred_percent(teacher, metadata, together):
    counted = []
    make(teacher, metadata, [0, 1], on_step=counted.append)
    assert counted[:-1] == [8] * together.steps[:2].max()
    assert sum(counted) == 8 * 200


def test_an_optimiser_that_couples_images_stops_too(teacher, metadata):
    images = make(teacher, metadata, [0], replace(SETTINGS, patience=2), Lbfgs())
    assert images.steps.item() < 200
    assert images.losses[-1] < images.losses[0]


def test_evaluations_are_counted_of_which_a_step_may_make_several(teacher, metadata, together, monkeypatch):
    torch.testing.assert_close(together.evaluations, together.steps.float())
    calls, objective = [], Objective.__call__
    monkeypatch.setattr(Objective, "__call__", lambda *given: calls.append(1) or objective(*given))
    images = make(teacher, metadata, [0], replace(SETTINGS, tolerance=0.0, steps=5), Lbfgs())
    assert images.steps.tolist() == [5]
    assert images.evaluations.tolist() == [len(calls) - 1], "once more for the last losses"
    assert len(calls) > 2 * 5


@pytest.mark.parametrize(("wrong", "rule"), [({"tolerance": 1.0}, "below 1"), ({"patience": 0}, "at least 1")])
def test_wrong_settings_name_the_flag(wrong, rule):
    with pytest.raises(ConfigError, match=f"reconstruction.{next(iter(wrong))} must be .*{rule}"):
        replace(SETTINGS, **wrong)


@pytest.mark.parametrize("loss", [1.0, -1.0])
def test_a_loss_that_stays_as_it_is_has_converged_whatever_its_sign(loss):
    """Terms such as the activation's size are negative."""
    stopping = Stopping(SETTINGS, num_groups=2)
    values = torch.zeros(8, 3)
    assert not stopping.all_converged(10, torch.tensor([loss, loss]), values)
    falls = loss - 0.5
    assert not stopping.all_converged(20, torch.tensor([loss, falls]), values)
    assert stopping.steps.tolist() == [21, 200]
    assert stopping.all_converged(30, torch.tensor([loss, falls]), values)
