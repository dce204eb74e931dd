"""Small networks of the kinds that people have, for images ``[N, 1, 6, 6]`` and three classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


class Vit(nn.Module):
    """Nine patches and a class token; as ``sequence_first`` all is ``[tokens, N, features]``, which is PyTorch's default."""

    def __init__(self, sequence_first: bool = False):
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 2, 2)
        self.cls, self.pos = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.randn(1, 10, 8) * 0.1)
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0, batch_first=not sequence_first)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head, self.sequence_first = nn.LayerNorm(8), nn.Linear(8, 3), sequence_first

    def tokens(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        x = self.norm(self.blocks(x.transpose(0, 1) if self.sequence_first else x))
        return self.head(x[0] if self.sequence_first else x[:, 0])


class Rows(nn.Module):
    """A recurrent net that reads an image row by row, and answers from the last ``[N, hidden]``."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU, batch_first: bool = True):
        super().__init__()
        self.rnn, self.head = kind(6, 4, batch_first=batch_first), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.squeeze(1)
        if self.rnn.batch_first:
            return self.head(self.rnn(rows)[0][:, -1])
        return self.head(self.rnn(rows.transpose(0, 1))[0][-1])


class Cell(nn.Module):
    """The same with a cell, applied once per row."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTMCell(6, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for row in x.squeeze(1).unbind(1):
            state = self.cell(row, state)
        return self.head(state[0])


class ChannelsFirstNorm(nn.LayerNorm):
    """Over the channels of maps, as ConvNeXt has it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelsLastNorm(nn.LayerNorm):
    """Of maps with their channels last, in double precision."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.double(), self.normalized_shape, self.weight.double(), self.bias.double()).to(x)


class ConvNext(nn.Module):
    """A block with as many channels as rows and columns, so that shapes do not tell which are which."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1), ChannelsFirstNorm(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.inner, self.wide, self.narrow = ChannelsLastNorm(6), nn.Linear(6, 12), nn.Linear(12, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        y = self.inner(self.depthwise(x).permute(0, 2, 3, 1))
        x = x + self.narrow(F.gelu(self.wide(y))).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class Windows(nn.Module):
    """Attention within windows, as in Swin: what its layers put out has a row for each window, ``[N * windows, tokens, features]``."""

    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.bias = nn.ParameterDict({"of_positions": torch.zeros(4, 4)})

    def forward(self, x: Tensor) -> Tensor:
        """Tokens with their place, ``[N, 4, 4, 8]``."""
        windows = self.norm(x).view(len(x), 2, 2, 2, 2, 8).transpose(2, 3).reshape(-1, 4, 8)
        query, key, value = self.qkv(windows).chunk(3, -1)
        mixed = self.proj((query @ key.mT + self.bias["of_positions"]).softmax(-1) @ value)
        return x + mixed.view(len(x), 2, 2, 2, 2, 8).transpose(2, 3).reshape(x.shape)


class Swin(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.blocks = nn.Conv2d(1, 8, 3), nn.Sequential(Windows(), Windows())
        self.positions, self.norm, self.head = nn.Embedding(16, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1) + self.positions(torch.arange(16)).view(4, 4, 8)
        return self.head(self.norm(self.blocks(x)).mean((1, 2)))


class Gated(nn.Module):
    """A depthwise convolution and squeeze-and-excitation, all without BatchNorm."""

    def __init__(self):
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4, bias=False)
        self.down, self.up, self.head = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(F.hardswish(self.stem(x)))
        x = x * torch.sigmoid(self.up(F.silu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.head(x.mean((2, 3)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.conv2(self.relu(self.conv1(x))))


def residual() -> nn.Sequential:
    """Two blocks, and a head of two dense layers."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), Residual(), Residual(), head)


def parametrised() -> nn.Sequential:
    """Spectral and weight norms, of a layer with as many outputs as the example has images."""
    return nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(1, 2, 3)),
        nn.Flatten(),
        parametrizations.spectral_norm(nn.Linear(32, 2)),
        parametrizations.orthogonal(nn.Linear(2, 3)),
    )
