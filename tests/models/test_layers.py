"""Layers: what their dimensions are, and values by channel."""

import pytest
import torch

from dfkd_exp.models.layers import Layer


@pytest.mark.parametrize(
    ("shape", "axes", "locations", "channels"),
    [
        ((4, 2, 3), ("channel", "row", "column"), 6, 4),
        ((2, 3, 4), ("row", "column", "feature"), 6, 4),
        ((5, 4), ("token", "feature"), 5, 4),
        ((4,), ("unit",), 1, 4),
    ],
)
def test_values_by_channel_and_back(shape, axes, locations, channels):
    layer, values = Layer("layer", shape, axes), torch.randn(7, *shape)
    by_channel = layer.by_channel(values)
    assert by_channel.shape == (7, locations, channels)
    of_channel = [values.select(1 + layer.channel_axis, channel).flatten() for channel in range(channels)]
    assert all(torch.equal(by_channel[..., channel].flatten(), own) for channel, own in enumerate(of_channel))
    assert torch.equal(layer.in_units(by_channel), values.flatten(1))


def test_a_layer_without_channels_or_units_has_none():
    with pytest.raises(ValueError, match="none of which is of channels or units"):
        Layer("layer", (2, 3), ("row", "column")).num_channels  # noqa: B018
