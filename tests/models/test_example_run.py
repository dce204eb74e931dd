"""The layers that are found of the architectures that people have, by name, shape and axes, and what is recorded of them."""

import pytest
import torch
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata import AllLayers, Channels
from dfkd_exp.models.layers import Layer
from dfkd_exp.models.recording import find_layers, frozen, overwritten, recording
from dfkd_exp.reconstruction.masks import DropoutMasks
from tests.models.architectures import Cell, ConvNext, Gated, Residual, Rows, Swin, Vit, parametrised, residual
from tests.toy import INPUTS, toy_images

EXAMPLE = torch.rand(2, *INPUTS.shape, generator=torch.Generator().manual_seed(0))
MAPS, PLACES, TOKENS, UNITS = (
    ("channel", "height", "width"),
    ("height", "width", "feature"),
    ("token", "feature"),
    ("unit",),
)
OF_A_BLOCK = [("self_attn", 8), ("norm1", 8), ("linear1", 12), ("linear2", 8), ("norm2", 8)]
VIT = [
    ("patch", (8, 3, 3), MAPS),
    *((f"blocks.layers.{block}.{name}", (10, width), TOKENS) for block in (0, 1) for name, width in OF_A_BLOCK),
    ("norm", (10, 8), TOKENS),
    ("head", (3,), UNITS),
]
SWIN = [
    ("patch", (8, 4, 4), MAPS),
    *((f"blocks.{block}{name}", (4, 4, 8), PLACES) for block in (0, 1) for name in (".norm", "")),
    ("norm", (4, 4, 8), PLACES),
    ("head", (3,), UNITS),
]
ROWS = [("rnn", (6, 4), TOKENS), ("head", (3,), UNITS)]
FOUND = {
    "vit": (lambda: Vit(), VIT),
    "vit, tokens first": (lambda: Vit(sequence_first=True), VIT),
    "gru": (lambda: Rows(), ROWS),
    "lstm, rows first": (lambda: Rows(nn.LSTM, batch_first=False), ROWS),
    "cell": (lambda: Cell(), [("cell", (4,), UNITS), ("head", (3,), UNITS)]),
    "convnext": (
        lambda: ConvNext(),
        [
            ("stem", (6, 6, 6), MAPS), ("norm", (6, 6, 6), MAPS), ("depthwise", (6, 6, 6), MAPS),
            ("inner", (6, 6, 6), PLACES), ("wide", (6, 6, 12), PLACES), ("narrow", (6, 6, 6), PLACES), ("head", (3,), UNITS),
        ],
    ),
    "swin": (lambda: Swin(), SWIN),
    "gated": (
        lambda: Gated(),
        [
            ("stem", (4, 4, 4), MAPS), ("depthwise", (4, 2, 2), MAPS), ("down", (2, 1, 1), MAPS), ("up", (4, 1, 1), MAPS),
            ("head", (3,), UNITS),
        ],
    ),
    "parametrised": (
        parametrised,
        [("0", (2, 4, 4), MAPS), ("2", (2,), UNITS), ("3", (3,), UNITS)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_layers_are_those_that_one_would_expect(name):
    make, expected = FOUND[name]
    network = make()
    assert find_layers(network, EXAMPLE) == [Layer(*layer) for layer in expected]
    vectors = [layer for layer, shape, _ in expected if len(shape) == 1]
    assert [layer.name for layer in find_layers(network, EXAMPLE, "dense")] == vectors
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_blocks_that_are_named_have_the_axes_of_what_is_in_them():
    assert find_layers(Swin(), EXAMPLE, ["blocks"])[0] == Layer("blocks", (4, 4, 8), PLACES)
    assert find_layers(residual(), EXAMPLE, ["2", "3"])[:2] == [
        Layer("2", (4, 4, 4), MAPS),
        Layer("3", (4, 4, 4), MAPS),
    ]


def test_parts_of_images_are_refused_with_the_block_around_them():
    with pytest.raises(
        DfkdError, match=r"blocks.0.qkv does not put out one tensor per image; name blocks.0, the block around it"
    ):
        find_layers(Swin(), EXAMPLE, ["blocks.0.qkv"])
    with pytest.raises(DfkdError, match=r"positions does not put out one tensor per image; name another layer"):
        find_layers(Swin(), EXAMPLE, ["positions"])


def test_attention_is_recorded_as_it_puts_tokens_out():
    network = frozen(Vit())
    with recording(network, find_layers(network, EXAMPLE)) as recorder:
        _, attended, *_ = recorder(EXAMPLE)
    tokens = network.tokens(EXAMPLE)
    torch.testing.assert_close(attended, network.blocks.layers[0].self_attn(tokens, tokens, tokens)[0])
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("count", [2, 10, 6, 1])
@pytest.mark.parametrize(("make", "tokens"), [(Vit, 10), (lambda first: Rows(batch_first=not first), 6)])
def test_images_come_first_whatever_the_network_does(make, tokens, count):
    """Also where there are as many images as tokens, so that shapes do not tell."""
    one, other = frozen(make(False)), frozen(make(True))
    other.load_state_dict(one.state_dict())
    layers = find_layers(one, EXAMPLE)
    assert find_layers(other, EXAMPLE) == layers
    images = torch.rand(count, *INPUTS.shape)
    for network in (one, other):
        with recording(network, layers) as recorder:
            recorded = recorder(images)
            torch.testing.assert_close(recorder.output, one(images))
        if network is one:
            expected = recorded
    for values, right in zip(recorded, expected, strict=True):
        torch.testing.assert_close(values, right)


def test_statistics_of_a_recurrent_net_are_those_of_its_sequence():
    images, labels = toy_images()
    network = frozen(Rows(batch_first=False))
    own = network.rnn(images.squeeze(1).transpose(0, 1))[0].transpose(0, 1).double()
    units = AllLayers(covariance="diagonal").collect(network, [(images, labels)], INPUTS)
    channels = Channels().collect(network, [(images, labels)], INPUTS)
    for label in range(3):
        values = own[labels == label]
        for metadata, rows in ((units, values.flatten(1)), (channels, values.flatten(0, 1))):
            found = metadata.statistics[0].summary
            torch.testing.assert_close(found.mean[label].double(), rows.mean(0), atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(found.variance[label].double(), rows.var(0), atol=1e-7, rtol=1e-5)
    units.resolved(network)  # its layers are the network's


class ByTheWay(nn.Module):
    """Writes over what its layers put out: by ``data``, which PyTorch does not count, or only where there are many images."""

    def __init__(self, way: str):
        super().__init__()
        self.first, self.head, self.way = nn.Linear(36, 4), nn.Linear(4, 3), way

    def forward(self, x):
        x = self.first(x.flatten(1))
        if self.way == "data":
            x.data.mul_(2)
        elif len(x) > 5:
            x.mul_(2)
        else:
            x = x * 2
        return self.head(x)


@pytest.mark.parametrize("way", ["data", "many"])
def test_nothing_that_is_written_over_is_summarised(way):
    network, (images, labels) = frozen(ByTheWay(way)), toy_images()
    layers = find_layers(network, EXAMPLE)
    assert overwritten(network, layers, EXAMPLE) == ({("first", "output")} if way == "data" else set())
    mean = AllLayers().collect(network, [(images, labels)], INPUTS).statistics[0].summary.mean
    values = network.first(images.flatten(1)).double()
    for label in range(3):
        torch.testing.assert_close(mean[label].double(), values[labels == label].mean(0), atol=1e-6, rtol=1e-5)


def test_what_is_not_written_over_is_not_copied():
    network = frozen(residual())
    layers = find_layers(network, EXAMPLE)
    with recording(network, layers, copied=overwritten(network, layers, EXAMPLE)) as recorder:
        seen = []
        handle = network[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        assert recorder(EXAMPLE)[0] is seen[0]
        handle.remove()


def test_dropout_masks_are_of_whole_images():
    network = nn.Sequential(
        nn.Flatten(0, 2), nn.Linear(6, 6), nn.Dropout(0.5), nn.Unflatten(0, (-1, 6)), nn.Flatten(), nn.Linear(36, 3)
    )
    with pytest.raises(
        DfkdError, match="needs dropout of one tensor per image, images first, which the teacher's 2 is not"
    ):
        DropoutMasks(frozen(network), EXAMPLE)


def test_a_block_that_is_recorded_is_the_last_of_what_is_in_it():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), Residual(), nn.Flatten(), nn.Linear(64, 3))
    assert [layer.name for layer in find_layers(network, EXAMPLE, ["1", "1.conv2"])] == ["1.conv2", "1", "3"]
