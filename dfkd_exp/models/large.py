"""Networks for photographs: AlexNet and ResNet-18, whole and with every width halved."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import Shape

ALEXNET_SMALLEST, RESNET_SMALLEST, RESNET_LARGE = 63, 9, 64


class AlexNet(nn.Module):
    """AlexNet of one tower: ``widths`` are five convolutions and two dense layers.

    Source: Krizhevsky (2014), "One weird trick for parallelizing convolutional neural networks", footnote 1; dropout on the
    outputs of the dense layers as in Krizhevsky, Sutskever and Hinton (2012), Sec. 4.2. Differs: no response normalisation.
    torchvision's has 256 channels, not 384, in the fourth convolution, and its dropout before the dense layers.
    """

    def __init__(
        self,
        image_shape: Shape = (3, 224, 224),
        num_classes: int = 2,
        widths: tuple[int, ...] = (64, 192, 384, 384, 256, 4096, 4096),
    ):
        super().__init__()
        channels, height, width = image_shape
        _require_size("AlexNet", image_shape, ALEXNET_SMALLEST)
        first, second, third, fourth, fifth, sixth, seventh = widths
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(first, second, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(third, fourth, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(fourth, fifth, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(fifth * _alexnet_side(height) * _alexnet_side(width), sixth),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(sixth, seventh),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(seventh, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class AlexNetHalf(AlexNet):
    """AlexNet with every width halved (paper, Table 3)."""

    def __init__(self, image_shape: Shape = (3, 224, 224), num_classes: int = 2):
        super().__init__(image_shape, num_classes, (32, 96, 192, 192, 128, 2048, 2048))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added; through a 1x1 convolution where the shape changes."""

    def __init__(self, fan_in: int, fan_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(fan_out)
        self.relu = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or fan_in != fan_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False), nn.BatchNorm2d(fan_out)
            )

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(images)))))
        return self.relu(hidden + self.shortcut(images))


class ResNet18(nn.Module):
    """ResNet-18: four stages of two blocks, with BatchNorm. ``widths``: of the stages.

    Source: He et al. (2016), Table 1. Differs for images below 64 pixels: as is usual for CIFAR (Sec. 4.2), a 3x3 stem of
    stride 1 without max-pooling.
    """

    def __init__(
        self,
        image_shape: Shape = (3, 32, 32),
        num_classes: int = 10,
        widths: tuple[int, ...] = (64, 128, 256, 512),
    ):
        super().__init__()
        # In a last batch of one image, BatchNorm has no variance for maps of one pixel.
        _require_size("ResNet-18", image_shape, RESNET_SMALLEST)
        first = widths[0]
        if min(image_shape[1:]) < RESNET_LARGE:
            stem: list[nn.Module] = [nn.Conv2d(image_shape[0], first, 3, padding=1, bias=False)]
            pooling: list[nn.Module] = []
        else:
            stem = [nn.Conv2d(image_shape[0], first, 7, stride=2, padding=3, bias=False)]
            pooling = [nn.MaxPool2d(3, stride=2, padding=1)]
        self.stem = nn.Sequential(*stem, nn.BatchNorm2d(first), nn.ReLU(), *pooling)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(BasicBlock(fan_in, fan_out, stride), BasicBlock(fan_out, fan_out, 1))
                for (fan_in, fan_out), stride in zip(itertools.pairwise((first, *widths)), (1, 2, 2, 2), strict=True)
            )
        )
        self.logits = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.stages(self.stem(images)).mean((2, 3)))


class ResNet18Half(ResNet18):
    """ResNet-18 with every width halved."""

    def __init__(self, image_shape: Shape = (3, 32, 32), num_classes: int = 10):
        super().__init__(image_shape, num_classes, (32, 64, 128, 256))


def _require_size(name: str, image_shape: Shape, smallest: int) -> None:
    _, height, width = image_shape
    if min(height, width) < smallest:
        raise DfkdError(
            f"{name} needs images of at least {smallest}x{smallest} pixels, got {width}x{height}; set data.size or data.pad"
        )


def _alexnet_side(pixels: int) -> int:
    """Rows or columns that are left after the first convolution and the three max-poolings."""
    side = (pixels - 7) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side
