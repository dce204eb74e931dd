"""Layers: what their dimensions are."""

import pytest

from dfkd_exp.models.layers import Layer


def test_a_layer_without_channels_or_units_has_none():
    with pytest.raises(ValueError, match="none of which is of channels or units"):
        Layer("layer", (2, 3), ("row", "column")).num_channels  # noqa: B018
