"""MobileNetV2, for photographs and for small images.

Source: Sandler, Howard, Zhu, Zhmoginov and Chen (2018), "MobileNetV2: Inverted Residuals and Linear Bottlenecks".
"""

from __future__ import annotations

from torch import Tensor, nn

from dfkd_exp.inputs import Shape, require_size
from dfkd_exp.models.resnet import LARGE

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Of each: how much wider a block is inside, its channels, the number of blocks, the stride of the first. Source: Table 2."""
STEM, LAST = 32, 1280
SMALLEST = 9
"""Pixels from which the last maps of a batch of one image have more than one."""


class InvertedResidual(nn.Module):
    """A 1x1 convolution to ``expansion`` times the channels, a depthwise 3x3 one, and a linear 1x1 one to ``fan_out``; the input is added
    where it has the same shape."""

    def __init__(self, fan_in: int, fan_out: int, expansion: int, stride: int):
        super().__init__()
        inside = expansion * fan_in
        wider = _convolution(fan_in, inside, 1) if expansion > 1 else []
        self.layers = nn.Sequential(
            *wider,
            *_convolution(inside, inside, 3, stride, groups=inside),
            nn.Conv2d(inside, fan_out, 1, bias=False),
            nn.BatchNorm2d(fan_out),
        )
        self.adds = stride == 1 and fan_in == fan_out

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.layers(images)
        return images + hidden if self.adds else hidden


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1.

    Differs for images below 64 pixels, as is usual for CIFAR: the stem and the second stage have stride 1. No dropout.
    """

    def __init__(self, image_shape: Shape = (3, 32, 32), num_classes: int = 10):
        super().__init__()
        require_size("MobileNetV2", image_shape, SMALLEST)
        small = min(image_shape[1:]) < LARGE
        self.stem = nn.Sequential(*_convolution(image_shape[0], STEM, 3, 1 if small else 2))
        self.stages = nn.Sequential()
        fan_in = STEM
        for number, (expansion, fan_out, blocks, stride) in enumerate(STAGES):
            first = 1 if small and number == 1 else stride
            stage = nn.Sequential(InvertedResidual(fan_in, fan_out, expansion, first))
            stage.extend(InvertedResidual(fan_out, fan_out, expansion, 1) for _ in range(blocks - 1))
            self.stages.append(stage)
            fan_in = fan_out
        self.last = nn.Sequential(*_convolution(fan_in, LAST, 1))
        self.logits = nn.Linear(LAST, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.last(self.stages(self.stem(images))).mean((2, 3)))


def _convolution(fan_in: int, fan_out: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size but for its stride, BatchNorm, and a ReLU that ends at 6."""
    convolution = nn.Conv2d(fan_in, fan_out, size, stride, padding=size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(fan_out), nn.ReLU6()]
