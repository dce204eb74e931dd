"""The networks are those of the papers, counted in parameters."""

import pytest
import torch

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.networks import (
    BUILDERS,
    Cnn,
    HintonNet,
    HintonNet800,
    LeNet5,
    LeNet5Half,
    LeNet5HalfDafl,
    Mlp,
    mlp,
)
from dfkd_exp.models.recording import num_parameters
from dfkd_exp.models.settings import NAMES


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (HintonNet, 2_395_210),
        (HintonNet800, 1_276_810),
        (LeNet5, 61_706),
        (LeNet5Half, 35_820),
        (LeNet5HalfDafl, 15_738),
        (mlp, 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10),
        (Cnn, 9 * 32 + 32 + 9 * 32 * 64 + 64 + 256 * 128 + 128 + 128 * 10 + 10),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_parameters(network, parameters):
    assert num_parameters(network()) == parameters


@pytest.mark.parametrize("name", BUILDERS)
def test_every_network_takes_any_images_and_classes(name):
    shape = (3, 64, 80) if name.startswith("alexnet") else (3, 20, 24)
    network = BUILDERS[name](shape, 7).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 7)


def test_every_network_can_be_chosen():
    assert {*BUILDERS, "custom"} == set(NAMES)


def test_dropout_is_on_the_input_and_the_hidden_layers_of_hinton_net_alone():
    rates = [module.p for module in HintonNet().modules() if isinstance(module, torch.nn.Dropout)]
    assert rates == [0.2, 0.5, 0.5]
    assert not any(isinstance(module, torch.nn.Dropout) for module in HintonNet800().modules())


def test_a_perceptron_may_have_no_hidden_layer():
    assert num_parameters(Mlp((1, 2, 2), 3, ())) == 4 * 3 + 3


@pytest.mark.parametrize("size", [(28, 12), (15, 15)])
def test_lenet_refuses_images_that_vanish_on_the_way(size):
    with pytest.raises(DfkdError, match=rf"at least 16x16 pixels, got {size[1]}x{size[0]}; set data.pad"):
        LeNet5((1, *size))
    assert LeNet5((1, 16, 16))(torch.zeros(1, 1, 16, 16)).shape == (1, 10)
