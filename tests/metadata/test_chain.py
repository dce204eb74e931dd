"""Graphs of weights are of layers that are a chain; others are refused before anything is collected, with a chain there is."""

import pytest
import torch
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata import Spatial, SpectralAllLayers, SpectralLayerPairs
from dfkd_exp.metadata.graph import weight_blocks
from dfkd_exp.models.recording import find_layers, frozen
from tests.models.architectures import Gated, Rows, Vit, residual
from tests.toy import INPUTS, toy_images, toy_teacher

EXAMPLE = INPUTS.example()


def checked(network, **settings):
    kind = SpectralLayerPairs(**settings)
    layers = kind.recorded(network, EXAMPLE)
    kind.check_layers(network, layers, INPUTS)
    return [layer.name for layer in layers]


@pytest.mark.parametrize("seed", [0, 2, 19, 39])
def test_a_residual_net_is_refused_with_the_blocks_that_are_a_chain(seed):
    """Whatever its weights are: of the last three a unit is dead that would see what goes around."""
    torch.manual_seed(seed)
    message = (
        r"layer '3.conv1' sees the image by another way than through layer '2.conv2', such as a skip connection, .* name layers that "
        r"follow one another, metadata.layers=\[0,2,3,4.1,4.3\], or set metadata.graph=coactivation$"
    )
    with pytest.raises(DfkdError, match=message):
        checked(residual())
    assert checked(residual(), layers=["0", "2", "3", "4.1", "4.3"]) == ["0", "2", "3", "4.1", "4.3"]
    assert checked(residual(), graph="coactivation")


def test_the_weights_between_blocks_are_those_of_both_ways_through_them():
    """``I + W2 W1``: with the activation as the identity, and what goes around."""
    network = frozen(residual())
    [block] = weight_blocks(network, find_layers(network, EXAMPLE, ["2", "3"])[:2], INPUTS.shape)
    conv1, conv2 = (conv.double() for conv in (network[3].conv1, network[3].conv2))
    units = torch.eye(64, dtype=torch.float64).view(64, 4, 4, 4)
    origin = conv2(conv1(torch.zeros(1, 4, 4, 4, dtype=torch.float64)))
    expected = (units + conv2(conv1(units)) - origin).flatten(1).T
    torch.testing.assert_close(block.matrix(), expected, atol=1e-10, rtol=0)


def test_the_dense_head_is_a_chain_of_its_own():
    network = frozen(residual())
    assert checked(network, layers="dense") == ["4.1", "4.3"]
    metadata = SpectralAllLayers(layers="dense", fraction=1.0, records_per_class=3).collect(
        network, [toy_images()], INPUTS
    )
    assert [layer.name for layer in metadata.layers] == ["4.1", "4.3"]
    metadata.resolved(network)


@pytest.mark.parametrize("make", [Gated, Vit])
def test_gates_and_attention_are_refused_without_a_chain_that_there_is_not(make):
    with pytest.raises(DfkdError, match=r"no graph of the network; set metadata.graph=coactivation$|is not affine"):
        checked(make())
    assert checked(make(), graph="coactivation")


@pytest.mark.parametrize("make", [toy_teacher, Rows])
def test_chains_are_as_they_were(make):
    assert checked(make())


def test_it_is_refused_before_an_image_is_seen():
    def images():
        raise AssertionError("an image was asked for")
        yield

    with pytest.raises(DfkdError, match="sees the image by another way"):
        SpectralLayerPairs().collect(residual(), images(), INPUTS)


def test_features_of_tokens_have_no_maps():
    """What `spatial` keeps of tokens is what `all_layers` does."""
    metadata = Spatial(full_up_to=8, rank=4).collect(frozen(Vit()), [toy_images()], INPUTS)
    forms = {layer.name: one.summary.form for layer, one in zip(metadata.layers, metadata.statistics, strict=True)}
    assert (forms["patch"], forms["norm"], forms["head"]) == ("separable", "low_rank", "full")


def test_a_layer_that_is_applied_twice_hides_nothing():
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 36), nn.ReLU())
    assert checked(nn.Sequential(network, network, nn.Linear(36, 3))) == ["0.1", "2"]
