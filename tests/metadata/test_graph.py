"""The weights between consecutive layers, against matrices that are written out by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata import graph
from dfkd_exp.metadata.graph import FactorBlock, NetworkBlock, coactivation_blocks, weight_blocks
from dfkd_exp.models.networks import Mlp
from dfkd_exp.models.recording import OUTPUT, Layer, find_layers, weights_digest

SHAPE = (1, 8, 8)


def blocks_of(network, shape=SHAPE, which="all"):
    return weight_blocks(network, find_layers(network, torch.zeros(2, *shape), which), shape)


def small_cnn():
    """72 units, max-pooled, then 12, then 4."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    )  # fmt: skip


class Functional(nn.Module):
    """`small_cnn`, written with functions; dropout is left on."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 2), nn.Linear(12, 4)

    def forward(self, images):
        x = F.dropout(F.max_pool2d(F.relu(self.one(images.float())), 2))
        return self.three(self.two(x).relu_().clamp(max=6).flatten(1))


class Residual(nn.Module):
    def __init__(self, join=torch.add):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(64, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.join = join

    def forward(self, images):
        one = self.one(images.flatten(1))
        return self.three(self.join(one, self.two(one.relu())).relu())


class Squeezed(nn.Module):
    """Two branches that do not see each other, and no batch where there is one image."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(1, 2, 8), nn.Conv2d(1, 2, 8), nn.Linear(2, 3)

    def forward(self, images):
        return self.head((self.left(images).relu() + self.right(images)).squeeze())


def weights(layer):
    return layer.weight.detach().double().numpy()


def small_cnn_by_hand(convolution, side=6):
    """The weights of `small_cnn`'s second convolution times those of an average-pooling, entry by entry."""
    weight = weights(convolution)
    matrix = np.zeros((3, 2, 2, 2, side, side))
    for out, channel, row, column in np.ndindex(weight.shape):
        for y, x, down, right in np.ndindex(2, 2, 2, 2):
            entry = weight[out, channel, row, column] / 4
            matrix[out, y, x, channel, 2 * (y + row) + down, 2 * (x + column) + right] += entry
    return matrix.reshape(12, 2 * side * side)


def averages(size, kernel, stride, padding, num_outputs):
    """Means over windows of a line of ``size``, the padding left out: ``[num_outputs, size]``."""
    matrix = np.zeros((num_outputs, size))
    for index in range(num_outputs):
        start = index * stride - padding
        inside = slice(max(start, 0), min(start + kernel, size))
        matrix[index, inside] = 1 / (inside.stop - inside.start)
    return matrix


def test_between_dense_layers_it_is_the_weight_matrix():
    network = Mlp(SHAPE, 3, (7, 5), input_dropout=0.2, dropout=0.5)
    one, two = blocks_of(network)
    assert (one.num_inputs, one.num_outputs) == (7, 5)
    assert torch.equal(one.matrix(), network.hidden2.weight.double())
    assert torch.equal(two.matrix(), network.logits.weight.double())


@pytest.mark.parametrize("make", [small_cnn, Functional])
def test_between_convolutions_it_is_average_pooling_and_convolution(make):
    network = make()
    one, two = blocks_of(network)
    convolution = network[3] if make is small_cnn else network.two
    np.testing.assert_allclose(one.matrix(), small_cnn_by_hand(convolution), atol=1e-15)
    assert torch.equal(two.matrix(), (network[6] if make is small_cnn else network.three).weight.double())


def test_it_is_applied_as_its_matrix_and_formed_in_parts(monkeypatch):
    [block, *_] = blocks_of(small_cnn())
    inputs, outputs = torch.randn(3, 72, dtype=torch.float64), torch.randn(5, 12, dtype=torch.float64)
    matrix = block.matrix()
    torch.testing.assert_close(block.apply(inputs), inputs @ matrix.T)
    torch.testing.assert_close(block.apply_transpose(outputs), outputs @ matrix)
    monkeypatch.setattr(graph, "ELEMENTS_AT_ONCE", 1)
    torch.testing.assert_close(block.matrix(), matrix, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d((3, 2), padding=(1, 0))],
)
def test_max_pooling_is_average_pooling_with_its_own_windows(pool):
    height, width = pool(torch.zeros(1, 1, 8, 8)).shape[2:]
    network = nn.Sequential(nn.Conv2d(1, 1, 1), pool, nn.Flatten(), nn.Linear(height * width, 3))
    kernel, stride, padding = (
        x if isinstance(x, tuple) else (x, x) for x in (pool.kernel_size, pool.stride, pool.padding)
    )
    rows = averages(8, kernel[0], stride[0], padding[0], height)
    columns = averages(8, kernel[1], stride[1], padding[1], width)
    np.testing.assert_allclose(blocks_of(network)[0].matrix(), weights(network[3]) @ np.kron(rows, columns), atol=1e-15)


def test_so_it_is_along_a_line():
    network = nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 1, 1), nn.MaxPool1d(4, 3), nn.Flatten(), nn.Linear(21, 3))
    expected = weights(network[4]) @ averages(64, 4, 3, 0, 21)
    np.testing.assert_allclose(blocks_of(network)[0].matrix(), expected, atol=1e-15)


@pytest.mark.parametrize(
    "activation",
    [
        *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh),
        *(nn.Sigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Hardswish, nn.Hardsigmoid, nn.RReLU, nn.AlphaDropout),
    ],
)
def test_activations_are_the_identity(activation):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), activation(), nn.Linear(5, 3))
    assert torch.equal(blocks_of(network)[0].matrix(), network[3].weight.double())
    if "inplace" in activation.__init__.__code__.co_varnames:
        network[2] = activation(inplace=True)
        assert torch.equal(blocks_of(network)[0].matrix(), network[3].weight.double())


def test_an_output_of_no_layer_is_joined_to_the_last_layer():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Tanh())
    [block] = blocks_of(network)
    assert find_layers(network, torch.zeros(2, *SHAPE))[-1].name == OUTPUT
    assert torch.equal(block.matrix(), torch.eye(3, dtype=torch.float64))


def test_a_residual_connection_belongs_to_no_pair_but_is_no_obstacle():
    network = Residual()
    one, two = blocks_of(network)
    assert torch.equal(one.matrix(), network.two.weight.double())
    assert torch.equal(two.matrix(), network.three.weight.double())
    [across] = blocks_of(network, which=["one"])
    both = network.three.weight.double() @ (network.two.weight.double() + torch.eye(5))
    torch.testing.assert_close(across.matrix(), both)


def test_layers_that_do_not_see_each_other_are_not_joined():
    network = Squeezed()
    one, two = blocks_of(network)
    assert torch.equal(one.matrix(), torch.zeros(2, 2, dtype=torch.float64))
    assert torch.equal(two.matrix(), network.head.weight.double())


@pytest.mark.parametrize(
    ("network", "which", "names"),
    [
        (Residual(torch.mul), ["one"], "'one' to layer 'three'"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.LayerNorm(5), nn.Linear(5, 3)), "all", "'1' to layer '2'"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2, dilation=2), nn.Flatten(), nn.Linear(9, 3)), "all", "'0' to layer '3'"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Softmax(1)), "all", "'1' to layer 'output'"),
    ],
)  # fmt: skip
def test_a_map_that_is_not_affine_is_refused(network, which, names):
    with pytest.raises(DfkdError, match=f"from layer {names} is not affine.*set metadata.graph=coactivation"):
        blocks_of(network, which=which)


def test_one_layer_makes_no_graph():
    with pytest.raises(DfkdError, match=r"only one; name more in metadata\.layers"):
        blocks_of(small_cnn(), which="top")
    with pytest.raises(DfkdError, match="only one"):
        coactivation_blocks([torch.zeros(3, 4)])


def test_the_teacher_stays_as_it_is():
    teacher = small_cnn().train()
    before = weights_digest(teacher)
    blocks_of(teacher)
    assert teacher.training
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert weights_digest(teacher) == before


@pytest.mark.parametrize("join", [torch.add, torch.mul, torch.matmul])
def test_no_hook_is_left_behind(join):
    network = Residual(join).double().eval()  # the second is not affine, the third does not run
    try:
        NetworkBlock(network, Layer("one", (5,)), Layer("three", (3,)), SHAPE)
    except (DfkdError, RuntimeError):
        assert join is not torch.add
    assert not any(module._forward_hooks for module in network.modules())


def test_coactivation_is_the_mean_outer_product_of_the_class_means():
    means = [np.random.default_rng(index).normal(size=(3, units)) for index, units in enumerate((7, 5, 2))]
    blocks = coactivation_blocks([torch.tensor(mean) for mean in means])
    for block, earlier, later in zip(blocks, means[:-1], means[1:], strict=True):
        expected = sum(np.outer(later[label], earlier[label]) for label in range(3)) / 3
        np.testing.assert_allclose(block.matrix(), expected, atol=1e-15)


def test_factors_are_applied_as_their_product():
    left, right = torch.randn(2, 4), torch.randn(2, 6)
    block = FactorBlock(left, right)
    matrix = left.double().T @ right.double()
    torch.testing.assert_close(block.apply(torch.eye(6).double()), matrix.T)
    torch.testing.assert_close(block.apply_transpose(torch.eye(4).double()), matrix)
