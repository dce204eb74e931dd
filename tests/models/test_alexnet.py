"""AlexNet: sizes, and the layers that are recorded of it."""

import pytest
import torch
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.alexnet import AlexNet
from dfkd_exp.models.ours import builder
from dfkd_exp.models.recording import find_layers, num_parameters


@pytest.mark.parametrize(
    ("network", "classes", "parameters"),
    [
        # torchvision's has 256 channels in the fourth convolution, and 61,100,840 parameters for 1,000 classes.
        (AlexNet, 1000, 61_100_840 + 128 * (9 * 384 + 1) + 9 * 128 * 256),
        (AlexNet, 2, 57_749_442),
        (builder("alexnet_half"), 2, 14_447_586),
    ],
)
def test_parameters(network, classes, parameters):
    with torch.device("meta"):
        assert num_parameters(network((3, 224, 224), classes)) == parameters


def test_alexnets_layers_are_recorded_in_order_the_logits_last():
    found = find_layers(AlexNet(num_classes=2, widths=(6, 8, 10, 12, 14, 16, 18)), torch.zeros(2, 3, 224, 224))
    assert [layer.name for layer in found] == [
        *(f"features.{index}" for index in (0, 3, 6, 8, 10)),
        *(f"classifier.{index}" for index in (1, 4, 7)),
    ]
    assert [layer.shape for layer in found] == [
        (6, 55, 55), (8, 27, 27), (10, 13, 13), (12, 13, 13), (14, 13, 13), (16,), (18,), (2,),
    ]  # fmt: skip


def test_the_half_has_half_of_every_width():
    with torch.device("meta"):
        whole, half = AlexNet(), builder("alexnet_half")()
        pairs = [(a, b) for a, b in zip(whole.modules(), half.modules(), strict=True) if hasattr(a, "weight")]
    assert [(len(a.weight), len(b.weight)) for a, b in pairs[:-1]] == [
        (64, 32), (192, 96), (384, 192), (384, 192), (256, 128), (4096, 2048), (4096, 2048),
    ]  # fmt: skip


@pytest.mark.parametrize("network", [AlexNet, builder("alexnet_half")])
def test_images_that_vanish_on_the_way_are_refused(network):
    with pytest.raises(DfkdError, match=r"at least 63x63 pixels, got 68x62; set data.size"):
        network((3, 62, 68))
    built = network((1, 63, 63), 3)
    assert built(torch.zeros(1, 1, 63, 63)).shape == (1, 3)


def test_dropout_is_on_the_outputs_of_both_dense_layers():
    with torch.device("meta"):
        modules = list(AlexNet().classifier)
    for index, module in enumerate(modules):
        if isinstance(module, nn.Dropout):
            assert (module.p, type(modules[index - 1])) == (0.5, nn.ReLU)
    assert sum(isinstance(module, nn.Dropout) for module in modules) == 2
