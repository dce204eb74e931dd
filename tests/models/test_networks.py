"""The networks are those of the papers, counted in parameters."""

import pytest
import torch

from dfkd_exp.config.groups import CONF, kinds
from dfkd_exp.errors import DfkdError
from dfkd_exp.models.networks import (
    Cnn,
    CnnBatchNorm,
    HintonNet,
    HintonNet800,
    LeNet5,
    LeNet5Half,
    LeNet5HalfDafl,
    Mlp,
    mlp,
)
from dfkd_exp.models.ours import BUILDERS, Ours, builder
from dfkd_exp.models.recording import find_layers, num_parameters


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (HintonNet, 2_395_210),
        (HintonNet800, 1_276_810),
        (LeNet5, 61_706),
        (LeNet5Half, 35_820),
        (LeNet5HalfDafl, 15_738),
        (mlp, 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10),
        (CnnBatchNorm, 9 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 2 * (32 + 64 + 128) + 128 * 10 + 10),
        (builder("cnn_bn_half"), 24_058),
        (Cnn, 9 * 32 + 32 + 9 * 32 * 64 + 64 + 256 * 128 + 128 + 128 * 10 + 10),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_parameters(network, parameters):
    assert num_parameters(network()) == parameters


@pytest.mark.parametrize("name", BUILDERS)
def test_every_network_takes_any_images_and_classes(name):
    shape = {"alexnet": (3, 64, 80), "alexnet_half": (3, 64, 80), "vgg11": (3, 32, 40)}.get(name, (3, 20, 24))
    network = builder(name)(shape, 7).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("group", ["teacher", "student"])
def test_every_network_can_be_chosen(group):
    for name in BUILDERS:
        assert kinds(group)[name] is Ours
        assert f"name: {name}\n" in (CONF / group / f"{name}.yaml").read_text()


@pytest.mark.parametrize(("network", "width"), [(CnnBatchNorm, 32), (builder("cnn_bn_half"), 16)])
def test_the_net_with_batch_norm_averages_its_last_maps_and_is_trained_on_a_single_image_too(network, width):
    found = find_layers(network((1, 28, 28)), torch.zeros(2, 1, 28, 28))
    assert [layer.shape for layer in found[1:-1:2]] == [(width, 28, 28), (2 * width, 14, 14), (4 * width, 7, 7)]
    assert [layer.name for layer in found][:2] == ["features.conv1", "features.bn1"]
    assert found[-1].name == "logits"
    assert network((1, 8, 8)).train()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    with pytest.raises(DfkdError, match="at least 8x8 pixels, got 9x7"):
        network((1, 7, 9))


def test_dropout_is_on_the_input_and_the_hidden_layers_of_hinton_net_alone():
    rates = [module.p for module in HintonNet().modules() if isinstance(module, torch.nn.Dropout)]
    assert rates == [0.2, 0.5, 0.5]
    assert not any(isinstance(module, torch.nn.Dropout) for module in HintonNet800().modules())


def test_a_perceptron_may_have_no_hidden_layer():
    assert num_parameters(Mlp((1, 2, 2), 3, ())) == 4 * 3 + 3


@pytest.mark.parametrize("size", [(28, 12), (15, 15)])
def test_lenet_refuses_images_that_vanish_on_the_way(size):
    with pytest.raises(DfkdError, match=rf"at least 16x16 pixels, got {size[1]}x{size[0]}; set data.size"):
        LeNet5((1, *size))
    assert LeNet5((1, 16, 16))(torch.zeros(1, 1, 16, 16)).shape == (1, 10)
