"""Networks on blocks of pixels: what they put out, what is recorded inside them and their gradients are the plain network's."""

import pytest
import torch
from torch import nn

from dfkd_exp.models.networks import Cnn, LeNet5
from dfkd_exp.models.recording import find_layers, frozen, recording
from dfkd_exp.reconstruction.engine.blocks import BlockConv2d, BlockMaxPool2d, from_blocks, to_blocks
from dfkd_exp.reconstruction.engine.rewrite import runs, with_blocks


def vgg(channels=3):
    """Two convolutions per pooling, the second pair and its pooling in a Sequential of its own."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3, padding=1), nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(5, 6, 3, padding="same"), nn.ReLU(), nn.Conv2d(6, 4, 2), nn.ELU(), nn.Dropout(0.5),
                      nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 8, (1, 3), padding=(0, 1), bias=False), nn.MaxPool2d(2)),
        nn.Flatten(), nn.LazyLinear(7),
    )  # fmt: skip


def deep():
    """Four poolings: more than one run."""
    layers = []
    for _ in range(4):
        layers += [nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(2), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))


class Residual(nn.Module):
    """Convolutions outside of any Sequential, and one in it that is left to itself."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2)
        self.end = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, stride=2), nn.Flatten(), nn.LazyLinear(3))

    def forward(self, x):
        x = self.one(x)
        return self.end(x + self.two(x.relu()))


NETWORKS = {
    "lenet5": (lambda: LeNet5(), (1, 32, 32), [("features.0", 4), ("features.2", 2), ("features.3", 2)]),
    "lenet5 of 28x28": (lambda: LeNet5((3, 28, 28)), (3, 28, 28), [("features.0", 4), ("features.5", 1)]),
    "cnn": (lambda: Cnn((1, 8, 8)), (1, 8, 8), [("features.0", 4), ("features.3", 2)]),
    "cnn, oblong": (lambda: Cnn((2, 8, 12)), (2, 8, 12), [("features.0", 4)]),
    "cnn, second pooling of an odd size": (lambda: Cnn((1, 10, 14), width=4), (1, 10, 14), [("features.0", 2)]),
    "vgg": (vgg, (3, 16, 16), [("0", 2), ("2", 2), ("5.0", 1), ("5.6", 2)]),
    "deep": (deep, (2, 32, 32), [("0", 4), ("3", 2), ("6", 4), ("9", 2)]),
    "residual": (Residual, (2, 8, 8), [("one", 4), ("two", 4)]),
    "one convolution": (lambda: nn.Sequential(nn.Conv2d(1, 40, 3), nn.Flatten()), (1, 8, 8), [("0", 2)]),
    "a kernel as large as the image": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 9, 4), nn.Flatten()),
        (1, 8, 8),
        [("0", 2), ("2", 1)],
    ),
}


def built(name):
    build, shape, sides = NETWORKS[name]
    torch.manual_seed(0)
    network = build()
    network(torch.zeros(2, *shape))
    return frozen(network), torch.rand(3, *shape), sides


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_blocks_can_be_made_images_again(side):
    images = torch.rand(2, 3, 8, 16)
    blocks = to_blocks(images, side)
    assert blocks.shape[:3] == (2, 8 // side, 16 // side)
    assert torch.equal(from_blocks(blocks, side), images)


@pytest.mark.parametrize("side", [2, 4])
def test_pooling_leaves_blocks_of_half_the_side(side):
    images = torch.rand(2, 3, 8, 16)
    pooled = BlockMaxPool2d(side // 2, last=False)(to_blocks(images, side))
    assert torch.equal(pooled, to_blocks(nn.functional.max_pool2d(images, 2), side // 2))


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_activations_and_gradients_are_the_plain_networks(name):
    network, images, sides = built(name)
    blocks, orders = with_blocks(network, images)
    assert dict(sides).items() <= {leaf.path: side for run in runs(network, images) for leaf, side in run}.items()
    assert any(isinstance(module, BlockConv2d) for module in blocks.modules())
    paths = [path for path, module in network.named_modules() if path and len(list(module.parameters()))]
    results = []
    for form in (network, blocks):
        pixels = images.clone().requires_grad_(True)
        with recording(form, paths) as recorder:
            outputs = recorder(pixels)
        weights = [torch.sin(torch.arange(output[0].numel())) for output in outputs]  # by unit
        flat = []
        for path, output, weight in zip(paths, outputs, weights, strict=True):
            inside = form is blocks and path in orders
            flat.append(torch.empty(3, weight.numel()))
            flat[-1] = output.flatten(1)
            if inside:
                assert orders[path].shape == output.shape[1:]
                flat[-1] = output.flatten(1)[:, orders[path].flatten().argsort()]
        loss = sum((values * weight).sum() for values, weight in zip(flat, weights, strict=True))
        results.append((flat, *torch.autograd.grad(loss, pixels)))
    (plain, plain_gradient), (found, gradient) = results
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, plain_gradient, rtol=1e-4, atol=1e-5)


CONVOLUTIONS = [
    (nn.Conv2d(1, 6, 5), (32, 32), (1, 2, 4)),
    (nn.Conv2d(3, 4, 3, padding=1, bias=False), (8, 12), (1, 2, 4)),
    (nn.Conv2d(2, 3, (1, 3), padding=(0, 2)), (4, 6), (1, 2)),
    (nn.Conv2d(2, 3, 3, padding="same"), (8, 4), (1, 2, 4)),
    (nn.Conv2d(2, 3, 2, padding="valid"), (5, 5), (1,)),
    (nn.Conv2d(2, 3, 5, padding=4), (8, 8), (1, 2, 4)),
]


@pytest.mark.parametrize(
    ("convolution", "size", "side"), [(c, size, s) for c, size, sides in CONVOLUTIONS for s in sides]
)
@pytest.mark.parametrize("first", [True, False])
def test_a_convolution_on_blocks_is_the_convolution(convolution, size, side, first):
    images = torch.randn(3, convolution.in_channels, *size, requires_grad=True)
    direct = convolution(images)
    blocks = BlockConv2d(convolution, tuple(direct.shape[2:]), side, first, last=True)
    found = blocks(images if first else to_blocks(images, side))
    torch.testing.assert_close(found, direct, rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(direct)
    (expected_gradient,) = torch.autograd.grad((direct * weights).sum(), images)
    (gradient,) = torch.autograd.grad((found * weights).sum(), images)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 4, 3, stride=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 64, 3),
        nn.Conv2d(4, 4, 22),
        nn.MaxPool2d(2),
        nn.ReLU(),
    ],
    ids=str,
)
def test_other_layers_are_left_alone(module):
    network = nn.Sequential(module, nn.Flatten())
    assert not runs(network, torch.rand(2, 4, 32, 32))


@pytest.mark.parametrize(
    "pooling", [nn.MaxPool2d(3), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, padding=1), nn.AvgPool2d(2)], ids=str
)
def test_other_pooling_ends_a_run(pooling):
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), pooling, nn.Flatten())
    assert [[leaf.path for leaf, _ in run] for run in runs(network, torch.rand(2, 1, 12, 12))] == [["0"]]


def test_a_layer_that_is_used_twice_keeps_its_form():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.once = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, x):
            return self.once(self.shared(self.shared(x)))

    network, images = frozen(Twice()), torch.rand(2, 1, 8, 8)
    changed, _ = with_blocks(network, images)
    assert isinstance(changed.once, BlockConv2d)
    assert isinstance(changed.shared, nn.Conv2d)
    torch.testing.assert_close(changed(images), network(images))


def test_a_network_that_takes_its_sequential_apart_is_left_as_it_is():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.MaxPool2d(2))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
                x = x - x.mean((1, 2, 3), keepdim=True) * torch.arange(x.shape[-1])
            return x

    network, images = frozen(Apart()), torch.rand(2, 1, 8, 8)
    assert runs(network, images)
    changed, orders = with_blocks(network, images)
    assert torch.equal(changed(images), network(images))
    assert not orders


def test_the_network_itself_and_its_recorded_layers_stay_as_they_were():
    network, images, _ = built("vgg")
    with_blocks(network, images)
    assert network[1].inplace
    assert not any(isinstance(module, BlockConv2d) for module in network.modules())
    assert [layer.name for layer in find_layers(network, images)] == ["0", "2", "5.0", "5.2", "5.6", "7"]
