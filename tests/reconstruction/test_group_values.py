"""Moments of groups in each view: as from the view's values themselves, however these lie and whatever else is asked for."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from dfkd_exp.models.layers import Layer
from dfkd_exp.models.regions import Regions
from dfkd_exp.models.spectrum import Spectrum
from dfkd_exp.models.styles import Styles
from dfkd_exp.reconstruction.group_values import GroupValues
from dfkd_exp.reconstruction.layout import Layout

LAYERS = {
    "map": Layer("layer", (3, 8, 4), ("channel", "height", "width")),
    "odd map": Layer("layer", (3, 5, 7), ("channel", "height", "width")),
    "tokens": Layer("layer", (8, 5), ("token", "feature")),
    "features last": Layer("layer", (4, 8, 3), ("height", "width", "feature")),
}
GROUPS, IMAGES = 2, 6


def views_of(layer):
    """In the order in which one asks for them, and others than those of one grid."""
    return [Regions(layer, 1), Regions(layer, 2), Regions(layer, 4), Styles(layer), Styles(layer, 2), Spectrum(layer)]


def lying(layer, memory_format=torch.contiguous_format, dtype=torch.float32):
    """Values of a layer ``[M, *shape]``, with a mean other than zero, and their layout."""
    values = torch.randn(GROUPS * IMAGES, *layer.shape, generator=torch.Generator().manual_seed(0)) * 2 + 1
    values = values.to(dtype)
    if values.dim() == 4:
        values = values.contiguous(memory_format=memory_format)
    return values, Layout.of(values, layer)


def asked(values, layout, views, view):
    lie = layout(values)
    return GroupValues(lie.reshape(GROUPS, IMAGES, *lie.shape[1:]), layout, views).moments(view)


def expected(values, view):
    """From the definition."""
    rows = view.gathered(values.float()).reshape(GROUPS, -1, view.num_values)
    return rows.mean(1), rows.var(1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", LAYERS)
def test_moments_are_those_of_the_views_values(name, memory_format):
    """Each by itself, and beside all others, which may then be made of the moments of smaller windows."""
    layer = LAYERS[name]
    values, layout = lying(layer, memory_format)
    views = views_of(layer)
    for view in views:
        for beside in ([view], views, [view, Styles(layer)]):
            for found, wanted in zip(asked(values, layout, beside, view), expected(values, view), strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_so_they_are_where_units_lie_in_an_order_of_their_own():
    """As convolutions on blocks leave them: parts of the locations one after the other, channels within."""
    layer = LAYERS["map"]
    values, _ = lying(layer)
    order = torch.arange(layer.num_units).view(3, 32)[:, torch.randperm(32)].T.reshape(4, 24)
    layout = Layout.in_order(order, layer)
    assert layout.channel_dim is None
    lie = values.flatten(1)[:, order.flatten()].view(GROUPS, IMAGES, *order.shape)
    for view in views_of(layer):
        found = GroupValues(lie, layout, views_of(layer)).moments(view)
        for own, wanted in zip(found, expected(values, view), strict=True):
            torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", LAYERS)
def test_so_are_their_gradients(name, memory_format):
    layer = LAYERS[name]
    values, layout = lying(layer, memory_format)
    views = views_of(layer)
    values.requires_grad_(True)
    for view in views:
        weights = torch.randn(2, GROUPS, view.num_values, generator=torch.Generator().manual_seed(1))
        found, wanted = (
            torch.autograd.grad((torch.stack(pair) * weights).sum(), values)[0]
            for pair in (asked(values, layout, views, view), expected(values, view))
        )
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LAYERS)
def test_moments_of_half_precision_are_float32_and_as_good(name, dtype, memory_format):
    """By BatchNorm's own code where it can be; a channel that hardly varies loses nothing to the size of its mean."""
    layer = LAYERS[name]
    values, layout = lying(layer, memory_format, dtype)
    values = (values / 8 + 100).to(dtype).requires_grad_(True)
    for view in views_of(layer):
        found, wanted = asked(values, layout, [view], view), expected(values, view)
        for own, exact in zip(found, wanted, strict=True):
            assert own.dtype == torch.float32
            torch.testing.assert_close(own, exact, rtol=1e-3, atol=1e-4)
        weights = torch.randn(view.num_values)
        own, exact = (
            torch.autograd.grad((mean * weights + variance).sum(), values, retain_graph=True)[0]
            for mean, variance in (found, wanted)
        )
        assert own.dtype == dtype
        torch.testing.assert_close(own, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))


def test_what_is_compiled_sees_all_of_it_and_finds_the_same():
    """`aten.batch_norm_update_stats` would be a wall to a compiler."""
    layer = LAYERS["map"]
    values, layout = lying(layer, torch.channels_last, torch.bfloat16)

    def variance(values):
        return asked(values, layout, [Regions(layer, 1)], Regions(layer, 1))[1]

    traced = make_fx(variance)(values)
    assert "batch_norm" not in traced.code
    torch.testing.assert_close(traced(values), variance(values), rtol=1e-3, atol=1e-3)


def test_a_large_map_is_gone_through_once(monkeypatch):
    """For channels, larger windows and styles together."""
    from dfkd_exp.reconstruction import group_values

    taken = []
    for name in ("moments", "group_moments"):
        taking = getattr(group_values, name)
        monkeypatch.setattr(group_values, name, lambda *given, taking=taking: taken.append(given[0]) or taking(*given))
    layer = LAYERS["map"]
    values, layout = lying(layer)
    views = [Regions(layer, 1), Regions(layer, 2), Styles(layer), Styles(layer, 4)]
    lie = GroupValues(values.view(GROUPS, IMAGES, *layer.shape), layout, views)
    for view in views:
        lie.moments(view)
    assert sum(given.untyped_storage().data_ptr() == values.untyped_storage().data_ptr() for given in taken) == 1
