"""Residual networks: sizes, shortcuts, and the layers that are recorded of them."""

import pytest
import torch

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.ours import builder
from dfkd_exp.models.recording import find_layers, num_parameters
from dfkd_exp.models.resnet import ResNet, SmallBlock, SmallResNet


@pytest.mark.parametrize(
    ("network", "shape", "classes", "parameters"),
    [
        ("resnet18", (3, 224, 224), 1000, 11_689_512),  # torchvision's
        ("resnet18", (3, 32, 32), 10, 11_173_962),  # as everywhere for CIFAR-10
        ("resnet18_half", (3, 32, 32), 10, 2_797_610),
        ("resnet20", (3, 32, 32), 10, 269_722),  # He et al., Table 6: 0.27M
        ("resnet32", (3, 32, 32), 10, 464_154),  # 0.46M
        ("resnet34", (3, 224, 224), 1000, 21_797_672),  # torchvision's
        ("resnet34", (3, 32, 32), 10, 21_282_122),  # as everywhere for CIFAR-10
        ("resnet56", (3, 32, 32), 10, 853_018),  # 0.85M
        ("resnet8", (3, 32, 32), 10, 75_290),
    ],
)
def test_parameters(network, shape, classes, parameters):
    with torch.device("meta"):
        assert num_parameters(builder(network)(shape, classes)) == parameters


def test_deeper_ones_are_blocks_more():
    with torch.device("meta"):
        assert num_parameters(SmallResNet(blocks=18)) == 1_727_962  # He et al., Table 6: ResNet-110, 1.7M


def layers(network, *shape):
    return find_layers(network, torch.zeros(2, *shape))


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
    found = layers(ResNet((3, *size), 5, widths=(4, 6, 8, 10)), 3, *size)
    assert found[0].shape == (4, *stem)
    assert (found[0].name, found[1].name) == ("stem.0", "stem.1")
    assert found[-2].shape == (10, *last)


def test_resnets_layers_are_recorded_in_the_order_of_the_forward_pass_the_logits_last():
    network = ResNet((3, 32, 32), 5, widths=(4, 6, 8, 10))
    names = [layer.name for layer in layers(network, 3, 32, 32)]
    assert len(names) == 2 * 20 + 1, "twenty convolutions, three of them shortcuts, each with BatchNorm; the logits"
    assert names[-1] == "logits"
    second_stage = [name.removeprefix("stages.1.") for name in names if name.startswith("stages.1.")]
    assert second_stage == [
        "0.conv1", "0.bn1", "0.conv2", "0.bn2", "0.shortcut.0", "0.shortcut.1", "1.conv1", "1.bn1", "1.conv2", "1.bn2",
    ]  # fmt: skip


@pytest.mark.parametrize(("network", "smallest"), [("resnet18", 9), ("resnet34", 9), ("resnet20", 5), ("resnet8", 5)])
def test_images_that_vanish_on_the_way_are_refused(network, smallest):
    called = network.replace("resnet", "ResNet-")
    with pytest.raises(
        DfkdError, match=rf"{called} .*at least {smallest}x{smallest} pixels, got {smallest + 5}x{smallest - 1}; set"
    ):
        builder(network)((3, smallest - 1, smallest + 5))
    built = builder(network)((1, smallest, smallest), 3)
    built.train()
    assert built(torch.zeros(1, 1, smallest, smallest)).shape == (1, 3)


def test_a_small_resnet_halves_the_size_and_doubles_the_width_from_stage_to_stage():
    found = layers(SmallResNet(), 3, 32, 32)
    convolutions = [layer for layer in found if "conv" in layer.name]
    assert [layer.shape for layer in convolutions] == 7 * [(16, 32, 32)] + 6 * [(32, 16, 16)] + 6 * [(64, 8, 8)]
    assert found[-1].name == "linear"
    assert len(found) == 2 * 19 + 1, (
        "nineteen convolutions, each with BatchNorm, no shortcut with weights, and the logits"
    )


def test_the_shortcut_is_every_second_pixel_between_channels_of_zeros():
    block = SmallBlock(2, 4, 2).eval()
    torch.nn.init.zeros_(block.bn2.weight)  # of the block only the shortcut is left
    images = torch.rand(3, 2, 6, 5)
    out = block(images)
    assert torch.equal(out[:, 1:3], images[:, :, ::2, ::2])
    assert not out[:, [0, 3]].any()
    assert out.shape == (3, 4, 3, 3)
