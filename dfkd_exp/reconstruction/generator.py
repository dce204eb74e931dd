"""The generator of images that data-free methods have in common, for inputs of any shape."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dfkd_exp.inputs import InputSpec

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SLOPE = 0.2
"""Of the leaky ReLU below zero."""


class Generator(nn.Module):
    """Latents ``[N, D]`` to pixels ``[N, *shape]`` in [0, 1].

    A dense layer to maps of a quarter of the size and BatchNorm; twice, the size doubled, a convolution, BatchNorm and a leaky ReLU; a
    last convolution, and an ``end`` (`_end`). What has no space, a table, is made by two dense layers.

    Source: Chen et al. (2019), DAFL, and those who took it over.
    """

    def __init__(self, inputs: InputSpec, latents: int = 100, width: int = 64, end: str = "sigmoid"):
        super().__init__()
        shape = inputs.shape
        channels, *space = shape
        self.shape = shape
        self.small = [math.ceil(size / 4) for size in space]
        if not space:
            self.first = nn.Linear(latents, 2 * width)
            self.rest = nn.Sequential(
                nn.BatchNorm1d(2 * width),
                nn.LeakyReLU(SLOPE),
                nn.Linear(2 * width, channels),
                *_end(end, nn.BatchNorm1d, inputs),
            )
            return
        convolution, norm = CONVOLUTIONS[len(space)], NORMS[len(space)]
        self.first = nn.Linear(latents, 2 * width * math.prod(self.small))
        self.rest = nn.Sequential(
            norm(2 * width),
            nn.Upsample(scale_factor=2),
            convolution(2 * width, 2 * width, 3, padding=1),
            norm(2 * width),
            nn.LeakyReLU(SLOPE),
            nn.Upsample(scale_factor=2),
            convolution(2 * width, width, 3, padding=1),
            norm(width),
            nn.LeakyReLU(SLOPE),
            convolution(width, channels, 3, padding=1),
            *_end(end, norm, inputs),
        )

    def forward(self, latents: Tensor) -> Tensor:
        hidden = self.first(latents)
        if not self.small:
            return self.rest(hidden)
        maps = hidden.unflatten(1, (-1, *self.small))
        if len(self.small) == 2:  # a CPU takes a third less time where channels lie side by side
            maps = maps.contiguous(memory_format=torch.channels_last)
        pixels = self.rest(maps)
        for axis, size in enumerate(self.shape[1:], start=2):  # sizes that four does not divide came out larger
            pixels = pixels.narrow(axis, (pixels.shape[axis] - size) // 2, size)
        return pixels


class Standardised(nn.Module):
    """Values of mean 0 and deviation 1, ``[N, C, …]``, as pixels of the usual mean and deviation of the inputs, kept in [0, 1]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: InputSpec):
        super().__init__()
        means, deviations = inputs.usual_pixels()
        space = [1] * (len(inputs.shape) - 1)
        self.register_buffer("mean", torch.tensor(means).view(-1, *space), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviations).view(-1, *space), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        return (self.mean + self.deviation * values).clamp(0, 1)


def _end(end: str, norm: type[nn.Module], inputs: InputSpec) -> list[nn.Module]:
    """The layers after the last convolution, those of `FromGenerator.end`."""
    if end == "sigmoid":
        return [nn.Sigmoid()]
    channels, standardised = inputs.shape[0], Standardised(inputs)
    if end == "norm":
        return [norm(channels), standardised]
    return [nn.Tanh(), norm(channels, affine=False), standardised]


class NoisyLayers(nn.Module):
    """Classes, one-hot, ``[N, K]``, to latents ``[N, D]``: random embeddings of the classes, which stay, BatchNorm, and dense layers, which
    `renew` makes anew. Of a batch's images of one class each takes the next of the ``count`` layers, and the first again after the last.

    Source: Tran et al. (2024), NAYER, "K-to-1 noisy layer". Differs: there embeddings are those of the classes' names, by a model of texts.
    """

    embeddings: Tensor
    begun: Tensor

    def __init__(self, num_classes: int, latents: int, count: int):
        super().__init__()
        self.register_buffer("embeddings", torch.randn(num_classes, latents))
        self.register_buffer("begun", torch.tensor(0))
        self.norm = nn.BatchNorm1d(latents)
        self.weight = nn.Parameter(torch.empty(count, latents, latents))
        self.bias = nn.Parameter(torch.empty(count, latents))
        self.renew()

    def renew(self) -> None:
        """Draw the weights again, as those of a dense layer, from torch's generator; the norm's are as they begin."""
        self.norm.reset_parameters()
        largest = self.weight.shape[1] ** -0.5
        for weights in (self.weight, self.bias):
            with torch.no_grad():
                weights.copy_(largest * (2 * torch.rand(weights.shape) - 1))

    def forward(self, classes: Tensor) -> Tensor:
        number = (classes.cumsum(0) * classes).sum(1).long() - 1  # how many of its class are before it
        by_all = torch.einsum("ne,led->nld", self.norm(classes @ self.embeddings), self.weight) + self.bias
        return by_all[torch.arange(len(classes), device=classes.device), number % len(self.weight)]
