"""Images as sums of waves: the cosine transform's, as strong as photographs', and optimised like any others."""

import numpy as np
import pytest
import scipy.fft
import torch
from torch import nn

from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayers, Channels, TopLayer
from dfkd_exp.metadata.nothing import Nothing
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction.loop import reconstruct
from dfkd_exp.reconstruction.optimizers import Adam
from dfkd_exp.reconstruction.parametrisation.auto import Auto
from dfkd_exp.reconstruction.parametrisation.frequencies import Frequencies, FrequencySpace
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels, PixelSpace
from tests.toy import INPUTS, toy_images, toy_teacher

MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.02, 0.02, 0.01]
COLOUR = InputSpec.normalised((3, 16, 12), MEAN, DEVIATION)
"""Of such small deviations that no pixel is out of range."""


def space(inputs=COLOUR, **settings):
    return FrequencySpace(Frequencies(**settings), inputs, torch.device("cpu"))


def started(count, **settings):
    made = space(**settings)
    return made, made.start(torch.zeros(count).long(), torch.Generator().manual_seed(0))


def test_pixels_are_the_inverse_cosine_transform_of_what_is_optimised():
    made, values = started(2, falloff=1.0, colour=0.25)
    rows, columns = np.meshgrid(np.arange(16) / 32, np.arange(12) / 24, indexing="ij")
    sizes = np.broadcast_to(1 / np.maximum(np.hypot(rows, columns), 1 / 32), (3, 16, 12)).copy()
    sizes[1:] *= 0.25
    sizes /= np.sqrt((sizes**2).mean())
    of_opponents = scipy.fft.idctn(values.numpy() * sizes, type=2, norm="ortho", axes=(2, 3))
    bright, red_blue, green = of_opponents.transpose(1, 0, 2, 3)
    colours = [
        bright / 3**0.5 + sign * red_blue / 2**0.5 + part * green / 6**0.5 for sign, part in ((1, 1), (0, -2), (-1, 1))
    ]
    expected = np.stack([mean + deviation * c for mean, deviation, c in zip(MEAN, DEVIATION, colours, strict=True)], 1)
    pixels, excess = made.pixels(values)
    np.testing.assert_allclose(pixels, expected, atol=1e-5)
    assert not excess.any()


def test_images_start_from_the_usual_mean_and_deviation_and_are_smooth():
    made, values = started(400)
    pixels, _ = made.pixels(values)
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.tensor(MEAN), atol=2e-3, rtol=0)
    assert pixels.var(0).mean().sqrt() == pytest.approx(float(torch.tensor(DEVIATION).square().mean().sqrt()), rel=0.1)
    quiet = started(400, init_std=0.004)
    assert quiet[0].pixels(quiet[1])[0].var(0).mean().sqrt() == pytest.approx(0.004, rel=0.1)
    rough = (pixels.diff(dim=3).square().mean() / (2 * pixels.var(0).mean())).item()
    noise = (
        started(400, falloff=0.0)[0].pixels(values)[0].diff(dim=3).square().mean() / (2 * pixels.var(0).mean())
    ).item()
    assert rough < 0.3 * noise


def test_images_start_around_the_means_of_their_classes_where_they_are_known():
    means = torch.rand(3, 3, 16, 12, generator=torch.Generator().manual_seed(1)) * 0.02 + 0.4
    made = FrequencySpace(Frequencies(), COLOUR, torch.device("cpu"), means)
    labels = torch.arange(3).repeat_interleave(500)
    pixels, _ = made.pixels(made.start(labels, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(pixels.view(3, 500, 3, 16, 12).mean(1), means, atol=5e-3, rtol=0)


def test_what_is_out_of_range_is_cut_off_and_counted():
    wide = InputSpec.normalised((1, 4, 4), [0.5], [0.3])
    made = space(wide)
    values = torch.zeros(2, 1, 4, 4)
    values[1, 0, 0, 0] = 100
    pixels, excess = made.pixels(values)
    assert pixels[0].eq(0.5).all()
    assert pixels[1].eq(1).all()
    assert excess[0] == 0
    assert excess[1] > 0


@pytest.mark.parametrize("shape", [(2, 10), (3, 4, 5), (1, 3, 4, 5)])
def test_whatever_has_space_is_made_so(shape):
    inputs = InputSpec(shape, (0.0,), (1.0,))
    pixels, _ = space(inputs).pixels(space(inputs).start(torch.zeros(3).long(), torch.Generator().manual_seed(0)))
    assert pixels.shape == (3, *shape)
    assert pixels.amin() >= 0
    assert pixels.amax() <= 1


def test_they_are_optimised_to_fit_the_metadata():
    teacher = frozen(toy_teacher())
    metadata = AllLayers().collect(teacher, [toy_images()], INPUTS)
    made = reconstruct(teacher, metadata, 8, steps=60, parametrisation=Frequencies(), optimizer=Adam(lr=0.1))
    assert made.losses[-1].mean() < 0.5 * made.losses[0].mean()


@pytest.mark.parametrize(
    ("shape", "kind", "chosen"),
    [
        ((1, 16, 16), Channels(), FrequencySpace), ((3, 15, 40), Channels(), PixelSpace), ((3, 40), Channels(), PixelSpace),
        ((3, 16, 20), Channels(grid=2), PixelSpace), ((3, 16, 20), AllLayers(covariance="diagonal"), PixelSpace),
        ((3, 16, 20), AllLayers(covariance="diagonal", pixels="spectrum"), PixelSpace),
        ((3, 16, 20), TopLayer(), FrequencySpace), ((3, 16, 20), Nothing(), FrequencySpace), ((3, 15, 20), Nothing(), PixelSpace),
        ((3, 16, 20), Channels(pixels="moments"), FrequencySpace),
    ],
)  # fmt: skip
def test_large_images_are_made_so_unless_the_metadata_says_what_is_where(shape, kind, chosen):
    convolution = (nn.Conv1d if len(shape) == 2 else nn.Conv2d)(shape[0], 2, 3)
    network = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    network(torch.rand(2, *shape))
    teacher, inputs = frozen(network), InputSpec(shape, (0.0,), (1.0,))
    metadata = kind.collect(teacher, [(torch.rand(30, *shape), torch.arange(30) % 3)], inputs).resolved(teacher)
    assert type(Auto().build(teacher, metadata)) is chosen


def test_tables_have_no_space():
    dense = frozen(nn.Sequential(nn.Linear(5, 3)))
    inputs = InputSpec((5,), (0.0,), (1.0,))
    metadata = AllLayers().collect(dense, [(torch.rand(30, 5), torch.arange(30) % 3)], inputs).resolved(dense)
    with pytest.raises(DfkdError, match="parametrisation=pixels"):
        Frequencies().build(dense, metadata)
    assert Pixels().build(dense, metadata)


@pytest.mark.parametrize("settings", [{"falloff": -1.0}, {"colour": 0.0}, {"init_std": -0.1}])
def test_what_cannot_be_is_refused(settings):
    with pytest.raises(ConfigError, match=f"parametrisation.{next(iter(settings))} must be"):
        Frequencies(**settings)
