"""Power spectra of maps: against a plain transform, and of what they know nothing."""

import numpy as np
import pytest
import torch

from dfkd_exp.models.layers import Layer, images_of
from dfkd_exp.models.spectrum import Spectrum
from tests.each import each

LAYERS = {
    "map": Layer("layer", (3, 6, 5), ("channel", "height", "width")),
    "channels last": Layer("layer", (6, 5, 3), ("height", "width", "feature")),
    "series": images_of((2, 9)),
    "volume": images_of((1, 3, 4, 5)),
}


@each(LAYERS)
def test_it_is_the_logarithm_of_the_power_of_each_frequency(name):
    """By the sum of the definition, a frequency at a time."""
    layer, values = LAYERS[name], torch.randn(4, *LAYERS[name].shape, dtype=torch.float64)
    spectrum = Spectrum(layer)
    found = spectrum.gathered(values)
    assert found.shape == (4, 1, spectrum.num_values)
    found = found.reshape(4, *spectrum.shape).movedim(1 + layer.channel_axis, 1).numpy()
    maps = values.movedim(1 + layer.channel_axis, 1).numpy()
    places = np.stack(np.meshgrid(*map(np.arange, maps.shape[2:]), indexing="ij"))
    for frequency in np.ndindex(found.shape[2:]):
        turns = sum(f * place / length for f, place, length in zip(frequency, places, maps.shape[2:], strict=True))
        wave = np.exp(-2j * np.pi * turns)
        power = np.abs((maps * wave).reshape(4, maps.shape[1], -1).sum(2)) ** 2 / places[0].size
        np.testing.assert_allclose(found[(..., *frequency)], np.log(power + 1e-5), atol=1e-9)


def test_it_does_not_know_where_things_are_and_knows_how_fine_they_are():
    layer = LAYERS["map"]
    values = torch.randn(1, *layer.shape, dtype=torch.float64)
    moved = values.roll((2, 3), (2, 3))
    spectrum = Spectrum(layer)
    torch.testing.assert_close(spectrum.gathered(moved), spectrum.gathered(values))
    smooth = torch.nn.functional.avg_pool2d(values, 3, 1, 1)
    assert not torch.allclose(spectrum.gathered(smooth), spectrum.gathered(values), atol=0.5)


def test_its_gradient_is_right_even_of_a_map_that_is_zero():
    spectrum = Spectrum(Layer("layer", (2, 3, 4)))
    values = torch.randn(2, 2, 3, 4, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(spectrum.gathered, values)
    nothing = torch.zeros(1, 2, 3, 4, requires_grad=True)
    spectrum.gathered(nothing).sum().backward()
    assert nothing.grad.isfinite().all()


@pytest.mark.parametrize("undo", ["spread", "pooled"])
def test_units_do_not_follow_from_it(undo):
    spectrum = Spectrum(LAYERS["map"])
    assert not spectrum.pools
    with pytest.raises(NotImplementedError):
        getattr(spectrum, undo)(
            *[torch.zeros(1, 1, spectrum.num_values)] * (1 if undo == "spread" else 2), *([3] * (undo == "pooled"))
        )
