"""Networks that other methods are compared on: parameters as in their papers, shapes, and what is put out."""

import pytest
import torch

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.mobilenet import MobileNetV2
from dfkd_exp.models.recording import find_layers, num_parameters
from dfkd_exp.models.vgg import Vgg11
from dfkd_exp.models.wide_resnet import PreActivationBlock, WideResNet


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (lambda: WideResNet(depth=16, width=1), 175_066),  # 0.2M
        (lambda: WideResNet(depth=16, width=2), 691_674),  # 0.7M
        (lambda: WideResNet(depth=40, width=1), 563_930),  # Zagoruyko and Komodakis, Table 4: 0.6M
        (lambda: WideResNet(depth=40, width=2), 2_243_546),  # 2.2M
        (lambda: WideResNet(depth=28, width=10), 36_479_194),  # 36.5M
        (Vgg11, 9_228_362),
        (lambda: MobileNetV2((3, 224, 224), 1000), 3_504_872),  # Sandler et al., Table 4: 3.4M; torchvision's
        (MobileNetV2, 2_236_682),
    ],
)
def test_parameters(network, parameters):
    with torch.device("meta"):
        assert num_parameters(network()) == parameters


@pytest.mark.parametrize(
    ("network", "shape", "maps"),
    [
        (WideResNet, (3, 32, 32), (128, 8, 8)),
        (Vgg11, (3, 32, 32), (512, 2, 2)),
        (MobileNetV2, (3, 32, 32), (1280, 4, 4)),
        (MobileNetV2, (3, 224, 224), (1280, 7, 7)),
        (MobileNetV2, (1, 28, 28), (1280, 4, 4)),
    ],
)
def test_the_last_maps_have_the_usual_size(network, shape, maps):
    with torch.device("meta"):
        found = find_layers(network(shape, 7), torch.zeros(2, *shape))
    assert found[-1].shape == (7,)
    assert found[-2].shape == maps


def test_a_block_before_whose_convolutions_is_the_norm_adds_the_input_itself():
    block = PreActivationBlock(4, 4, 1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    images = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(images), images)


def test_where_the_shape_changes_the_shortcut_sees_what_is_behind_the_first_relu():
    block = PreActivationBlock(4, 6, 2).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(-torch.rand(2, 4, 5, 5)), torch.zeros(2, 6, 3, 3)), "negative inputs are cut off"


@pytest.mark.parametrize("depth", [4, 15, 20])
def test_a_depth_that_no_wide_residual_network_has_is_refused(depth):
    with pytest.raises(TypeError, match=r"is 10, 16, 22, …"):
        WideResNet(depth=depth)


@pytest.mark.parametrize("network", [WideResNet, Vgg11, MobileNetV2])
def test_images_that_are_too_small_are_refused(network):
    with pytest.raises(DfkdError, match="needs images of at least"):
        network((3, 4, 4))
