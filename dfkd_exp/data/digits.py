"""scikit-learn's 1,797 handwritten digits, 8x8, which come with the library: no download."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dfkd_exp.data.base import Data

if TYPE_CHECKING:
    from dfkd_exp.data.images import ImageData


@functools.cache
def _digits() -> Any:
    """Read once: jobs of a sweep follow one another in one process, and it is text."""
    from sklearn.datasets import load_digits

    return load_digits()


@dataclass
class Digits(Data):
    """Every fifth image (in the library's order) is the test set: 1,438 training and 359 test images."""

    def read(self) -> ImageData:
        import torch

        from dfkd_exp.data.images import ImageData, LabelledImages

        bunch = _digits()
        # Grey levels are 0..16; spread over 0..255 so that a pixel means the same as everywhere else.
        pixels = (torch.from_numpy(bunch.images).float() * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        whole = LabelledImages(pixels, torch.from_numpy(bunch.target).long())
        is_test = torch.arange(len(whole)) % 5 == 4
        train, test = whole.select(~is_test).padded(self.pad), whole.select(is_test).padded(self.pad)
        return ImageData(train, test, [str(digit) for digit in range(10)], bytes_per_image=64)
