"""AlexNet, for photographs: whole, and with every width halved."""

from __future__ import annotations

from torch import Tensor, nn

from dfkd_exp.inputs import Shape, require_size

SMALLEST = 63


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
        require_size("AlexNet", image_shape, SMALLEST)
        channels, height, width = image_shape
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
            nn.Linear(fifth * _side(height) * _side(width), sixth),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(sixth, seventh),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(seventh, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def _side(pixels: int) -> int:
    """Rows or columns that are left after the first convolution and the three max-poolings."""
    side = (pixels - 7) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side
