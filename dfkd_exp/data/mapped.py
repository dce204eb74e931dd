"""Images in a file that is written image by image and read as a memory map: a data set may be larger than memory."""

from __future__ import annotations

import itertools
import json
import math
import mmap
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from dfkd_exp.data.images import LabelledImages

DTYPES = {"I64": torch.int64, "U8": torch.uint8, "F32": torch.float32}
CODES = {dtype: code for code, dtype in DTYPES.items()}


def write_images(path: Path, images: Iterable[Tensor], labels: Tensor) -> None:
    """A safetensors file of ``labels[N]`` int64 and of ``images``, which yields N times ``[*shape]``, uint8 or float32."""
    images = iter(images)
    first = next(images)
    shapes, header, end = {"labels": [len(labels)], "images": [len(labels), *first.shape]}, {}, 0
    for name, dtype in (("labels", labels.dtype), ("images", first.dtype)):
        start, end = end, end + math.prod(shapes[name]) * dtype.itemsize
        header[name] = {"dtype": CODES[dtype], "shape": shapes[name], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + labels.numpy().tobytes())
        for image in itertools.chain([first], images):
            file.write(image.contiguous().numpy().data)


def map_images(path: Path) -> LabelledImages:
    """What `write_images` wrote. The images are views of the file, which the system reads as they are used; nobody may
    write to them.

    safetensors maps files too, but writably and privately, for which Linux wants room in memory for the whole.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])

    def view(name: str) -> Tensor:
        shape, start = header[name]["shape"], header[name]["data_offsets"][0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch has no read-only tensors
            dtype = DTYPES[header[name]["dtype"]]
            return torch.frombuffer(content, dtype=dtype, count=math.prod(shape), offset=8 + length + start).view(shape)

    return LabelledImages(view("images"), view("labels").clone())
