"""Wide residual networks for small images: blocks that normalise before they convolve.

Source: Zagoruyko and Komodakis (2016), "Wide Residual Networks". Differs: no dropout, which the field leaves out for CIFAR.
"""

from __future__ import annotations

from torch import Tensor, nn

from dfkd_exp.inputs import Shape, require_size
from dfkd_exp.models.resnet import SMALLEST_OF_THREE_STAGES


class PreActivationBlock(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, twice, around which the input is added; through a 1x1 convolution, behind the first ReLU,
    where the shape changes."""

    def __init__(self, fan_in: int, fan_out: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(fan_in)
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.relu = nn.ReLU()
        changes = stride != 1 or fan_in != fan_out
        self.shortcut = nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False) if changes else None

    def forward(self, images: Tensor) -> Tensor:
        active = self.relu(self.bn1(images))
        hidden = self.conv2(self.relu(self.bn2(self.conv1(active))))
        return hidden + (images if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-``depth``-``width``: a 3x3 stem of 16 channels and three stages of (depth - 4) / 6 blocks, ``width`` times as wide as ResNet's.

    Source: Table 1.
    """

    def __init__(self, image_shape: Shape = (3, 32, 32), num_classes: int = 10, depth: int = 40, width: int = 2):
        super().__init__()
        require_size(f"WRN-{depth}-{width}", image_shape, SMALLEST_OF_THREE_STAGES)
        blocks, left = divmod(depth - 4, 6)
        if left or blocks < 1:
            raise TypeError(f"the depth of a wide residual network is 10, 16, 22, …, got {depth}")
        self.conv1 = nn.Conv2d(image_shape[0], 16, 3, padding=1, bias=False)
        self.stages = nn.Sequential()
        fan_in = 16
        for fan_out, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            rest = (PreActivationBlock(fan_out, fan_out, 1) for _ in range(blocks - 1))
            self.stages.append(nn.Sequential(PreActivationBlock(fan_in, fan_out, stride), *rest))
            fan_in = fan_out
        self.bn = nn.BatchNorm2d(fan_in)
        self.relu = nn.ReLU()
        self.logits = nn.Linear(fan_in, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.relu(self.bn(self.stages(self.conv1(images)))).mean((2, 3)))
