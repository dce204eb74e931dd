"""Images after a lossy codec: how many bytes they take, and what is left of them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dfkd_exp.data.files import MODES
from dfkd_exp.errors import DfkdError


@dataclass(frozen=True)
class Codec:
    """JPEG or WebP of some ``quality``, for images ``[C, H, W]``, grey or of three colours."""

    name: str
    quality: int
    shared_bytes: int
    """What all images have in common, and is counted once: of JPEG the tables."""

    @classmethod
    def of(cls, name: str, quality: int, images: Tensor) -> Codec:
        """That for ``images[N, C, H, W]``. Raises DfkdError for others than grey and coloured ones of bytes."""
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in MODES:
            raise DfkdError(
                f"source.codec={name} is for grey or coloured images of bytes, not {images.dtype} of shape {list(images.shape[1:])}; "
                "leave it out"
            )
        tables = len(_file(images[0], name, quality, streamtype=1)) if name == "jpeg" else 0
        return cls(name, quality, tables)

    def compressed(self, image: Tensor) -> tuple[int, Tensor]:
        """The bytes of ``image[C, H, W]`` beside those that are shared, and the image that is read from them."""
        whole = _file(image, self.name, self.quality)
        taken = _file(image, self.name, self.quality, streamtype=2) if self.name == "jpeg" else whole
        pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(whole)).convert(MODES[len(image)])))
        return len(taken), (pixels[None] if pixels.dim() == 2 else pixels.movedim(-1, 0)).contiguous()


def _file(image: Tensor, name: str, quality: int, streamtype: int = 0) -> bytes:
    """The image as a file; of JPEG with ``streamtype`` 1 its tables alone, with 2 what is left without them."""
    pixels = image.movedim(0, -1).squeeze(-1).numpy()
    picture, content = Image.fromarray(pixels), io.BytesIO()
    options = {"streamtype": streamtype} if name == "jpeg" else {"method": 6}
    picture.save(content, name.upper(), quality=quality, **options)
    return content.getvalue()
