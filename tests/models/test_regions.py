"""Regions of maps: windows that cover them, values by region and back, and moments pooled from those of units."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dfkd_exp.models.layers import Layer
from dfkd_exp.models.regions import Regions, regions_of, window
from tests.each import each

MAP = Layer("layer", (4, 6, 5), ("channel", "height", "width"))
LAYERS = {
    "map": MAP,
    "channels last": Layer("layer", (6, 5, 4), ("height", "width", "feature")),
    "tokens": Layer("layer", (7, 4), ("token", "feature")),
    "series": Layer("layer", (4, 9), ("channel", "length")),
    "volume": Layer("layer", (4, 3, 4, 5), ("channel", "depth", "height", "width")),
    "vector": Layer("layer", (4,), ("unit",)),
}


@each([1, 2, 5, 7, 8, 24, 28, 32, 224])
def test_windows_cover_every_location_and_no_more(length):
    for grid in range(1, 9):
        size, stride = window(length, grid)
        starts = [index * stride for index in range(min(length, grid))]
        assert {start + place for start in starts for place in range(size)} == set(range(length))
        assert starts[-1] + size == length
        if length % grid == 0:
            assert size == stride == length // grid, "windows that fit do not overlap"


def test_windows_of_lengths_that_nobody_has_are_found_at_once():
    size, stride = window(10**15, 10**9 - 7)
    assert (10**9 - 8) * stride + size == 10**15


@each(itertools.product(LAYERS, [1, 2, 3, 4, 100]))
def test_values_by_region_and_back(name, grid):
    layer, values = LAYERS[name], torch.randn(7, *LAYERS[name].shape)
    regions = Regions(layer, grid)
    gathered = regions.gathered(values)
    assert gathered.shape == (7, regions.per_image, regions.num_values)
    assert torch.equal(regions.spread(gathered), values.flatten(1))


@each([1, 2, 3, 5])
def test_regions_of_a_map_are_those_of_average_pooling(grid):
    values, regions = torch.randn(7, *MAP.shape, dtype=torch.float64), Regions(MAP, grid)
    (height, down), (width, right) = (window(length, grid) for length in MAP.shape[1:])
    expected = F.avg_pool2d(values, (height, width), (down, right))
    assert regions.shape == expected.shape[1:]
    torch.testing.assert_close(regions.gathered(values).mean(1), expected.flatten(1))


def test_channels_are_regions_of_a_grid_of_one():
    for name, layer in LAYERS.items():
        values = torch.randn(7, *layer.shape)
        own = values.movedim(1 + layer.channel_axis, -1).reshape(7, -1, 4)
        assert torch.equal(Regions(layer, 1).gathered(values), own), name


@each(itertools.product(LAYERS, [1, 2, 3]))
def test_moments_are_pooled_from_those_of_units(name, grid):
    layer, images = LAYERS[name], torch.randn(11, *LAYERS[name].shape, dtype=torch.float64) * 3 + 1
    regions = Regions(layer, grid)
    mean, variance = regions.pooled(images.mean(0)[None], images.var(0)[None], 11)
    together = regions.gathered(images).flatten(0, 1).numpy()
    np.testing.assert_allclose(mean[0], together.mean(0), atol=1e-12)
    np.testing.assert_allclose(variance[0], together.var(0, ddof=1))


@pytest.mark.parametrize("grid", [1, 4])
def test_where_each_unit_is_a_region_there_are_none(grid):
    assert regions_of(LAYERS["vector"], grid) is None
    assert regions_of(Layer("layer", (4, 1, 1)), grid) is None
    assert (regions_of(Layer("layer", (4, 4, 3)), grid) is None) == (grid == 4)
