"""AlexNet and ResNet-18: sizes, and the layers that are recorded of them."""

import pytest
import torch
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.large import AlexNet, AlexNetHalf, ResNet18, ResNet18Half
from dfkd_exp.models.recording import find_layers, num_parameters


@pytest.mark.parametrize(
    ("network", "shape", "classes", "parameters"),
    [
        # torchvision's has 256 channels in the fourth convolution, and 61,100,840 parameters for 1,000 classes.
        (AlexNet, (3, 224, 224), 1000, 61_100_840 + 128 * (9 * 384 + 1) + 9 * 128 * 256),
        (AlexNet, (3, 224, 224), 2, 57_749_442),
        (AlexNetHalf, (3, 224, 224), 2, 14_447_586),
        (ResNet18, (3, 224, 224), 1000, 11_689_512),  # torchvision's
        (ResNet18, (3, 32, 32), 10, 11_173_962),  # as everywhere for CIFAR-10
        (ResNet18Half, (3, 32, 32), 10, 2_797_610),
    ],
)
def test_parameters(network, shape, classes, parameters):
    with torch.device("meta"):
        assert num_parameters(network(shape, classes)) == parameters


def layers(network, *shape):
    return find_layers(network, torch.zeros(2, *shape))


def test_alexnets_layers_are_recorded_in_order_the_logits_last():
    found = layers(AlexNet(num_classes=2, widths=(6, 8, 10, 12, 14, 16, 18)), 3, 224, 224)
    assert [layer.name for layer in found] == [
        *(f"features.{index}" for index in (0, 3, 6, 8, 10)),
        *(f"classifier.{index}" for index in (1, 4, 7)),
    ]
    assert [layer.shape for layer in found] == [
        (6, 55, 55), (8, 27, 27), (10, 13, 13), (12, 13, 13), (14, 13, 13), (16,), (18,), (2,),
    ]  # fmt: skip


def test_the_half_has_half_of_every_width():
    with torch.device("meta"):
        whole, half = AlexNet(), AlexNetHalf()
        pairs = [(a, b) for a, b in zip(whole.modules(), half.modules(), strict=True) if hasattr(a, "weight")]
    assert [(len(a.weight), len(b.weight)) for a, b in pairs[:-1]] == [
        (64, 32), (192, 96), (384, 192), (384, 192), (256, 128), (4096, 2048), (4096, 2048),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "stem", "last"),
    [
        ((32, 32), (32, 32), (4, 4)),
        ((63, 63), (63, 63), (8, 8)),
        ((64, 96), (32, 48), (2, 3)),
        ((9, 9), (9, 9), (2, 2)),
    ],
)
def test_resnets_stem_depends_on_the_size_of_the_images(size, stem, last):
    found = layers(ResNet18((3, *size), 5, widths=(4, 6, 8, 10)), 3, *size)
    assert found[0].shape == (4, *stem)
    assert (found[0].name, found[1].name) == ("stem.0", "stem.1")
    assert found[-2].shape == (10, *last)


def test_resnets_layers_are_recorded_in_the_order_of_the_forward_pass_the_logits_last():
    network = ResNet18((3, 32, 32), 5, widths=(4, 6, 8, 10))
    names = [layer.name for layer in layers(network, 3, 32, 32)]
    assert len(names) == 2 * 20 + 1, "twenty convolutions, three of them shortcuts, each with BatchNorm; the logits"
    assert names[-1] == "logits"
    second_stage = [name.removeprefix("stages.1.") for name in names if name.startswith("stages.1.")]
    assert second_stage == [
        "0.conv1", "0.bn1", "0.conv2", "0.bn2", "0.shortcut.0", "0.shortcut.1", "1.conv1", "1.bn1", "1.conv2", "1.bn2",
    ]  # fmt: skip


@pytest.mark.parametrize(("network", "smallest"), [(AlexNet, 63), (AlexNetHalf, 63), (ResNet18, 9), (ResNet18Half, 9)])
def test_images_that_vanish_on_the_way_are_refused(network, smallest):
    with pytest.raises(
        DfkdError, match=rf"at least {smallest}x{smallest} pixels, got {smallest + 5}x{smallest - 1}; set"
    ):
        network((3, smallest - 1, smallest + 5))
    built = network((1, smallest, smallest), 3)
    built.train()
    assert built(torch.zeros(1, 1, smallest, smallest)).shape == (1, 3)


def test_dropout_is_on_the_outputs_of_both_dense_layers():
    with torch.device("meta"):
        modules = list(AlexNet().classifier)
    for index, module in enumerate(modules):
        if isinstance(module, nn.Dropout):
            assert (module.p, type(modules[index - 1])) == (0.5, nn.ReLU)
    assert sum(isinstance(module, nn.Dropout) for module in modules) == 2
