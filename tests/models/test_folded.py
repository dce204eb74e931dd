"""BatchNorm as part of the convolutions before it."""

import pytest
import torch
from torch import nn

from dfkd_exp.models.folded import folded
from dfkd_exp.models.ours import builder
from dfkd_exp.models.recording import frozen


def trained(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """With statistics and weights of its own, as after a training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias):
                nn.init.uniform_(tensor, 0.5, 1.5)
    for _ in range(3):
        network(example)
    return frozen(network)


@pytest.fixture
def example() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(4, 3, 32, 32)


@pytest.mark.parametrize("name", ["resnet8", "resnet18_half", "wrn_16_1", "cnn_bn"])
def test_a_folded_network_answers_alike_and_the_own_is_left_as_it_is(name, example):
    network = trained(builder(name)((3, 32, 32), 10), example)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    wanted = network(example)
    changed = folded(network, example)
    assert changed is not network
    norms = [module for module in changed.modules() if isinstance(module, nn.BatchNorm2d)]
    assert any("forward" in vars(norm) for norm in norms)
    other = torch.randn(8, 3, 32, 32)
    torch.testing.assert_close(changed(other), network(other), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(network(example), wanted, rtol=0, atol=0)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


class LookedAtTwice(nn.Module):
    """What the convolution puts out goes through BatchNorm, and beside it too."""

    def __init__(self, shared: bool):
        super().__init__()
        self.convolution, self.norm, self.shared = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), shared

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = self.convolution(images)
        other = self.convolution(values) if self.shared else values
        return (self.norm(values) + other).mean((2, 3))


@pytest.mark.parametrize("network", [
    LookedAtTwice(False), LookedAtTwice(True), nn.Sequential(nn.Conv2d(3, 4, 32), nn.Flatten()),
    nn.Sequential(nn.Conv2d(3, 4, 32), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()),
])  # fmt: skip
def test_what_cannot_be_folded_is_left_as_it_is(network, example):
    network = trained(network, example)
    changed = folded(network, example)
    assert not any("forward" in vars(module) for module in changed.modules())
    torch.testing.assert_close(changed(example), network(example), rtol=0, atol=0)
