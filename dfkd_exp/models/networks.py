"""Networks for digits and other small grey images. Parameters: HintonNet 2,395,210 and 1,276,810, LeNet-5 61,706,
its halves 35,820 (the paper's) and 15,738 (DAFL's and DFAD's)."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict

from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import Shape, described, require_size


class Mlp(nn.Sequential):
    """Fully connected, ReLU between layers: flatten -> widths... -> classes. Inputs ``[N, *shape]``, logits ``[N, K]``."""

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        widths: tuple[int, ...],
        input_dropout: float = 0.0,
        dropout: float = 0.0,
    ):
        sizes = [math.prod(image_shape), *widths]
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        if input_dropout:
            layers["dropout0"] = nn.Dropout(input_dropout)
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), start=1):
            layers[f"hidden{index}"] = nn.Linear(fan_in, fan_out)
            layers[f"relu{index}"] = nn.ReLU()
            if dropout:
                layers[f"dropout{index}"] = nn.Dropout(dropout)
        layers["logits"] = nn.Linear(sizes[-1], num_classes)
        super().__init__(layers)


class HintonNet(Mlp):
    """784-1200-1200-10 with dropout 0.2 on the input and 0.5 on the hidden layers (Hinton et al. 2015; paper, Table 1)."""

    def __init__(self, image_shape: Shape = (1, 28, 28), num_classes: int = 10):
        super().__init__(image_shape, num_classes, (1200, 1200), input_dropout=0.2, dropout=0.5)


class HintonNet800(Mlp):
    """784-800-800-10 without dropout: HintonNet's student (paper, Table 1)."""

    def __init__(self, image_shape: Shape = (1, 28, 28), num_classes: int = 10):
        super().__init__(image_shape, num_classes, (800, 800))


class LeNet5(nn.Module):
    """LeNet-5 with max-pooling and ReLU (LeCun et al. 1998; paper, Table 2). ``widths``: two convolutions, two dense layers."""

    def __init__(
        self,
        image_shape: Shape = (1, 32, 32),
        num_classes: int = 10,
        widths: tuple[int, int, int, int] = (6, 16, 120, 84),
    ):
        super().__init__()
        require_size("LeNet-5", image_shape, 16)
        channels, height, width = image_shape
        rows, columns = ((height - 4) // 2 - 4) // 2, ((width - 4) // 2 - 4) // 2
        first, second, third, fourth = widths
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(second * rows * columns, third),
            nn.ReLU(),
            nn.Linear(third, fourth),
            nn.ReLU(),
            nn.Linear(fourth, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class LeNet5Half(LeNet5):
    """The paper's LeNet-5-half: half the convolutions' channels, dense layers kept (35,820 parameters)."""

    def __init__(self, image_shape: Shape = (1, 32, 32), num_classes: int = 10):
        super().__init__(image_shape, num_classes, (3, 8, 120, 84))


class LeNet5HalfDafl(LeNet5):
    """DAFL's and DFAD's LeNet-5-half: every width halved (15,738 parameters)."""

    def __init__(self, image_shape: Shape = (1, 32, 32), num_classes: int = 10):
        super().__init__(image_shape, num_classes, (3, 8, 60, 42))


class Cnn(nn.Module):
    """Two convolutions with max-pooling and one dense layer, for what has space: small images such as 8x8 digits (kernels 3x3, pooling
    2x2), volumes (3x3x3, 2x2x2) and series (as many values as of an image: 9 and 4)."""

    def __init__(self, image_shape: Shape = (1, 8, 8), num_classes: int = 10, width: int = 32):
        super().__init__()
        channels, *space = image_shape
        if not space:
            raise DfkdError(
                f"cnn takes what has space, and the data's are {described(image_shape)}; choose mlp, which takes any"
            )
        kernel, pool = (9, 4) if len(space) == 1 else (3, 2)
        if min(space) < pool**2:
            raise DfkdError(
                f"cnn needs {pool**2} values in each direction, and the data's are {described(image_shape)}; choose mlp"
            )
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(space) - 1]
        pooling = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[len(space) - 1]
        self.features = nn.Sequential(
            convolution(channels, width, kernel, padding=kernel // 2),
            nn.ReLU(),
            pooling(pool),
            convolution(width, 2 * width, kernel, padding=kernel // 2),
            nn.ReLU(),
            pooling(pool),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * math.prod(side // pool**2 for side in space), 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class CnnBatchNorm(nn.Module):
    """Three 3x3 convolutions with BatchNorm, max-pooling between them, the mean over the last maps, one dense layer: about the least
    that has running statistics, for 28x28 and 32x32 pixels."""

    def __init__(self, image_shape: Shape = (1, 28, 28), num_classes: int = 10, width: int = 32):
        super().__init__()
        require_size("a CNN with BatchNorm", image_shape, 8)
        widths = (image_shape[0], width, 2 * width, 4 * width)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), start=1):
            layers[f"conv{index}"] = nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False)
            layers[f"bn{index}"] = nn.BatchNorm2d(fan_out)
            layers[f"relu{index}"] = nn.ReLU()
            if index < 3:
                layers[f"pool{index}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.logits = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.features(images).mean((2, 3)))


def mlp(image_shape: Shape = (1, 8, 8), num_classes: int = 10, width: int = 128) -> Mlp:
    """Two hidden layers of ``width`` units."""
    return Mlp(image_shape, num_classes, (width, width))
