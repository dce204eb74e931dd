"""Frozen dropout masks: the teacher is masked as the mask says, the same all the way, and left alone afterwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfkd_exp import reconstruct
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayersDropout
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction import Moments, Sample
from dfkd_exp.reconstruction.engine.settings import PLAIN
from dfkd_exp.reconstruction.masks import DropoutMasks
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from tests.toy import CLASSES, INPUTS, dropout_teacher, problem, toy_images, toy_teacher


def collected(teacher):
    return AllLayersDropout().collect(teacher, [toy_images()], INPUTS)


SETTINGS = {"images_per_class": 6, "group_size": 3, "steps": 4}


def test_the_loss_is_the_papers_through_the_masked_teacher():
    teacher = dropout_teacher()
    metadata = collected(teacher)
    objective = Objective(problem(teacher, metadata, Sample(**SETTINGS)), PLAIN)
    pixels, target = draw_groups(objective, [0, 1], seed=3)
    losses, _ = objective(pixels, target)
    (first, second), (at_input, hidden) = target.layers, target.masks
    one = F.linear(pixels.flatten(1) * at_input.flatten(0, 1), teacher[2].weight, teacher[2].bias)
    two = F.linear(one.relu() * hidden.flatten(0, 1), teacher[5].weight, teacher[5].bias) / 8
    expected = sum(
        (F.relu(a) - F.relu(t.draw.flatten(0, 1))).square().mean(1) for a, t in ((one, first), (two, second))
    )
    torch.testing.assert_close(losses, expected.view(2, 3).mean(1))
    assert set(at_input.unique().tolist()) == {0.0, 1.25}
    assert set(hidden.unique().tolist()) == {0.0, 2.0}


def test_masks_drop_at_the_teachers_rates_and_keep_the_mean():
    masks = DropoutMasks(dropout_teacher(), toy_images(1)[0]).draw(4000, torch.Generator().manual_seed(0))
    for mask, rate in zip(masks, (0.2, 0.5), strict=True):
        assert (mask == 0).float().mean() == pytest.approx(rate, abs=0.01)
        assert mask.mean() == pytest.approx(1, abs=0.02)


def test_whole_channels_are_dropped_where_the_teacher_drops_them():
    teacher = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(64, CLASSES))
    [mask] = DropoutMasks(frozen(teacher), toy_images(1)[0]).draw(5, torch.Generator().manual_seed(0))
    assert mask.shape == (5, 4, 1, 1)


def test_somebodys_own_dropout_of_single_values_drops_these():
    class Own(nn.Dropout):
        pass

    teacher = nn.Sequential(nn.Unflatten(1, (4, -1)), Own(0.5), nn.Flatten(), nn.Linear(36, CLASSES))
    teacher = nn.Sequential(nn.Flatten(), *teacher)
    [mask] = DropoutMasks(frozen(teacher), toy_images(1)[0]).draw(5, torch.Generator().manual_seed(0))
    assert mask.shape == (5, 4, 9)


def test_images_depend_on_their_masks_and_not_on_the_groups_beside_them():
    teacher = dropout_teacher()
    metadata = collected(teacher)
    every = reconstruct(teacher, metadata, 6, "sample", group_size=3, steps=4, engine=PLAIN)
    again = reconstruct(teacher, metadata, 6, "sample", group_size=3, steps=4, engine=type(PLAIN)(images_per_batch=3))
    torch.testing.assert_close(every.inputs, again.inputs)
    metadata.dropout_masks = False
    unmasked = reconstruct(teacher, metadata, 6, "sample", group_size=3, steps=4, engine=PLAIN)
    assert not torch.allclose(every.inputs, unmasked.inputs)
    assert sum(len(module._forward_hooks) for module in teacher.modules()) == 0


def test_moments_are_matched_without_masks():
    teacher = dropout_teacher()
    _, target = draw_groups(Objective(problem(teacher, collected(teacher), Moments(**SETTINGS)), PLAIN), [0], seed=0)
    assert target.masks == ()


def test_a_teacher_without_dropout_is_refused():
    teacher = frozen(toy_teacher())
    with pytest.raises(DfkdError, match=r"needs a teacher with nn.Dropout layers.*metadata=all_layers"):
        Objective(problem(teacher, collected(teacher), Sample(**SETTINGS)), PLAIN)


def test_a_teacher_of_as_many_tokens_as_images_is_masked_too():
    """Which of its axes is the images' a recorder finds out with another number of images."""
    torch.manual_seed(0)
    tokens = 4 * CLASSES
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    teacher = nn.Sequential(nn.Flatten(2), nn.Linear(6, 8), block, nn.Flatten(), nn.Linear(8 * tokens, CLASSES)).eval()
    inputs = InputSpec((tokens, 2, 3), (0.0,) * tokens, (1.0,) * tokens)
    metadata = AllLayersDropout().collect(
        teacher, [(torch.rand(40, *inputs.shape), torch.arange(40) % CLASSES)], inputs
    )
    for per_class in (4, 5):
        made = reconstruct(teacher, metadata, per_class, "sample", group_size=per_class, steps=2, engine=PLAIN)
        assert made.pixels.isfinite().all()
