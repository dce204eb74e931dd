"""Residual networks, with BatchNorm: ResNet-18 and -34 for photographs and small images, ResNet-20 and its kin for small images.

Source: He, Zhang, Ren and Sun (2016), "Deep Residual Learning for Image Recognition".
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from dfkd_exp.inputs import Shape, require_size

# In a last batch of one image, BatchNorm has no variance for maps of one pixel.
SMALLEST_OF_FOUR_STAGES, SMALLEST_OF_THREE_STAGES = 9, 5
LARGE = 64
"""Pixels from which ResNet-18 and -34 have the stem for photographs."""


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


class ResNet(nn.Module):
    """ResNet-18 or, with other numbers of ``blocks``, ResNet-34: four stages of blocks of two convolutions, with BatchNorm. ``widths``: of
    the stages.

    Source: Table 1. Differs for images below 64 pixels: as is usual for CIFAR (Sec. 4.2), a 3x3 stem of stride 1 without
    max-pooling.
    """

    def __init__(
        self,
        image_shape: Shape = (3, 32, 32),
        num_classes: int = 10,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        blocks: tuple[int, ...] = (2, 2, 2, 2),
    ):
        super().__init__()
        require_size(f"ResNet-{2 * sum(blocks) + 2}", image_shape, SMALLEST_OF_FOUR_STAGES)
        first = widths[0]
        if min(image_shape[1:]) < LARGE:
            stem: list[nn.Module] = [nn.Conv2d(image_shape[0], first, 3, padding=1, bias=False)]
            pooling: list[nn.Module] = []
        else:
            stem = [nn.Conv2d(image_shape[0], first, 7, stride=2, padding=3, bias=False)]
            pooling = [nn.MaxPool2d(3, stride=2, padding=1)]
        self.stem = nn.Sequential(*stem, nn.BatchNorm2d(first), nn.ReLU(), *pooling)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    BasicBlock(fan_in, fan_out, stride), *(BasicBlock(fan_out, fan_out, 1) for _ in range(count - 1))
                )
                for (fan_in, fan_out), stride, count in zip(
                    itertools.pairwise((first, *widths)), (1, 2, 2, 2), blocks, strict=True
                )
            )
        )
        self.logits = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.stages(self.stem(images)).mean((2, 3)))


class SmallBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added: its every ``stride``-th pixel, and zeros for channels that it has not.

    Source: Sec. 3.3, option A. The paper does not say where the zeros go; half of them before the input's channels and half
    behind, so that weights that others have published fit.
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(fan_out)
        self.relu = nn.ReLU()
        self.stride, more = stride, fan_out - fan_in
        self.zeros = (0, 0, 0, 0, more // 2, more - more // 2)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(images)))))
        return self.relu(hidden + nn.functional.pad(images[..., :: self.stride, :: self.stride], self.zeros))


class SmallResNet(nn.Module):
    """ResNet-(6n + 2) for small images, ResNet-8 to ResNet-56: a 3x3 stem and three stages of ``n`` = ``blocks`` blocks. ``widths``: of the
    stages.

    Source: Sec. 4.2 and Table 6.
    """

    def __init__(
        self,
        image_shape: Shape = (3, 32, 32),
        num_classes: int = 10,
        blocks: int = 3,
        widths: tuple[int, ...] = (16, 32, 64),
    ):
        super().__init__()
        require_size(f"ResNet-{6 * blocks + 2}", image_shape, SMALLEST_OF_THREE_STAGES)
        first, second, third = widths
        self.conv1 = nn.Conv2d(image_shape[0], first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU()
        self.layer1 = _stage(first, first, 1, blocks)
        self.layer2 = _stage(first, second, 2, blocks)
        self.layer3 = _stage(second, third, 2, blocks)
        self.linear = nn.Linear(third, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu(self.bn1(self.conv1(images)))
        return self.linear(self.layer3(self.layer2(self.layer1(hidden))).mean((2, 3)))


def _stage(fan_in: int, fan_out: int, stride: int, blocks: int) -> nn.Sequential:
    rest = (SmallBlock(fan_out, fan_out, 1) for _ in range(blocks - 1))
    return nn.Sequential(SmallBlock(fan_in, fan_out, stride), *rest)
