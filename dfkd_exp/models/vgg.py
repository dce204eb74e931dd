"""VGG-11 with BatchNorm, for small images.

Source: Simonyan and Zisserman (2015), configuration A. Differs, as is usual for CIFAR: BatchNorm behind each convolution, and one dense
layer in the place of three.
"""

from __future__ import annotations

from torch import Tensor, nn

from dfkd_exp.inputs import Shape, require_size

CHANNELS = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Of the convolutions between one max-pooling and the next."""


class Vgg11(nn.Module):
    """Eight 3x3 convolutions, each with BatchNorm and ReLU, five max-poolings, the mean over what they leave, one dense layer."""

    def __init__(self, image_shape: Shape = (3, 32, 32), num_classes: int = 10):
        super().__init__()
        require_size("VGG-11", image_shape, 32)
        self.features = nn.Sequential()
        fan_in = image_shape[0]
        for stage in CHANNELS:
            for fan_out in stage:
                self.features.extend(
                    [nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
                )
                fan_in = fan_out
            self.features.append(nn.MaxPool2d(2))
        self.logits = nn.Linear(fan_in, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.features(images).mean((2, 3)))
