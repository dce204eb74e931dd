"""Styles of maps: against their definition, and what they do not know."""

import numpy as np
import torch
from torch import nn

from dfkd_exp.metadata import Channels
from dfkd_exp.models.layers import Layer, images_of
from dfkd_exp.models.recording import frozen
from dfkd_exp.models.styles import Styles
from dfkd_exp.reconstruction import Moments
from tests.each import each
from tests.toy import CLASSES, INPUTS, toy_images

LAYERS = {
    "map": Layer("layer", (3, 6, 5), ("channel", "height", "width")),
    "tokens": Layer("layer", (7, 4), ("token", "feature")),
    "channels last": Layer("layer", (6, 5, 3), ("height", "width", "feature")),
    "series": images_of((2, 9)),
}


@each(LAYERS)
def test_it_is_each_channels_mean_and_log_deviation_in_an_image(name):
    layer, values = LAYERS[name], torch.randn(4, *LAYERS[name].shape, dtype=torch.float64)
    styles = Styles(layer)
    found = styles.gathered(values).numpy()
    by_channel = values.movedim(1 + layer.channel_axis, 1).reshape(4, layer.num_channels, -1).numpy()
    expected = np.concatenate([by_channel.mean(2), 0.5 * np.log(by_channel.var(2) + 1e-4)], axis=1)
    assert found.shape == (4, 1, styles.num_values)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-12)


def test_errors_of_means_and_of_log_deviations_are_weighed_by_variances_of_their_own():
    """However large a teacher's activations are."""
    images = toy_images(20)
    found = []
    for factor in (1.0, 100.0):
        torch.manual_seed(0)
        teacher = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, CLASSES))
        teacher[0].weight.data *= factor
        kind = Channels(styles=1)
        resolved = kind.collect(frozen(teacher), [images], INPUTS).resolved(teacher)
        targets = Moments(images_per_class=4, group_size=4, shrinkage=0.5).targets(
            resolved, torch.zeros(4, dtype=torch.long), torch.Generator().manual_seed(0)
        )
        [of_styles] = [target for target in targets if isinstance(target.view, Styles)]
        found.append(of_styles.scale[4:])
    torch.testing.assert_close(*found, rtol=0.2, atol=0)


def test_a_grid_tells_it_of_each_window_by_itself():
    values = torch.randn(4, 3, 6, 4, dtype=torch.float64)
    styles = Styles(Layer("layer", (3, 6, 4), ("channel", "height", "width")), 2)
    found = styles.gathered(values)[:, 0]
    window = values[:, 1, 3:, :2].flatten(1)  # of the second channel, below and left
    torch.testing.assert_close(found[:, 4 + 2], window.mean(1))
    torch.testing.assert_close(found[:, 12 + 4 + 2], (window.var(1, correction=0) + 1e-4).log() / 2)


def test_it_does_not_know_where_things_are():
    styles = Styles(LAYERS["map"])
    values = torch.randn(2, 3, 6, 5)
    elsewhere = values.flatten(2)[:, :, torch.randperm(30)].view(2, 3, 6, 5)
    torch.testing.assert_close(styles.gathered(elsewhere), styles.gathered(values))


def test_it_knows_how_images_differ_where_all_locations_together_do_not():
    """Two images of even maps, and two in which the same values are mixed."""
    even = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    mixed = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).expand(2, 1, 2, 2)
    styles = Styles(Layer("layer", (1, 2, 2), ("channel", "height", "width")))
    assert even.mean() == mixed.mean()
    assert even.std() == mixed.std()
    of_even, of_mixed = (styles.gathered(values)[:, 0] for values in (even, mixed))
    assert of_even[:, 0].std() > 0.7 > 0 == of_mixed[:, 0].std()
    assert of_even[:, 1].max() < of_mixed[:, 1].min()


def test_its_gradient_is_right_even_of_a_channel_that_is_dead():
    styles = Styles(Layer("layer", (2, 3, 4), ("channel", "height", "width")))
    values = torch.randn(2, 2, 3, 4, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(styles.gathered, values)
    nothing = torch.zeros(1, 2, 3, 4, requires_grad=True)
    styles.gathered(nothing).sum().backward()
    assert nothing.grad.isfinite().all()
