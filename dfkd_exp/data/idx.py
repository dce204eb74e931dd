"""MNIST and Fashion-MNIST: four IDX files, found on disk or downloaded, and always checked."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.data.published import PublishedData
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import regular_size

if TYPE_CHECKING:
    from torch import Tensor

    from dfkd_exp.data.images import ImageData

DIGITS = [str(digit) for digit in range(10)]
CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]

LARGEST_FILE = 2**26
"""Bytes of an uncompressed file of these data sets, of which the largest has 47 million: a small one may be unzipped to any number."""
UNZIP_ERRORS = (OSError, EOFError, ValueError, zlib.error)
"""What gzip raises for a damaged, a truncated and another damaged file."""


@dataclass
class IdxData(PublishedData):
    """Four IDX files, gzipped or not. Whatever is read is checked against the published sha256 of the uncompressed file."""

    files: ClassVar[str] = "the four IDX files"
    sha256: ClassVar[dict[str, str]] = {}
    class_names: ClassVar[list[str]] = []

    def fingerprint(self) -> dict[str, Any]:
        return {**self.identity(), "sha256": self.sha256}

    def read(self) -> ImageData:
        from dfkd_exp.data.images import ImageData, LabelledImages

        parts = {}
        for part, prefix in (("train", "train"), ("test", "t10k")):
            images = read_idx(self._bytes(f"{prefix}-images-idx3-ubyte")).unsqueeze(1)
            labels = read_idx(self._bytes(f"{prefix}-labels-idx1-ubyte")).long()
            parts[part] = LabelledImages(images, labels)
        raw_bytes = parts["train"].images[0].numel()
        return ImageData(
            parts["train"].padded(self.pad), parts["test"].padded(self.pad), self.class_names, bytes_per_image=raw_bytes
        )

    def _bytes(self, name: str) -> bytes:
        path = self.find(name, endings=("", ".gz"))
        try:
            regular_size(path)
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                content = at_most(file)
        except UNZIP_ERRORS as error:
            raise DfkdError(f"{path} cannot be read ({error}); delete it to have it fetched again") from error
        if hashlib.sha256(content).hexdigest() != self.sha256[name]:
            raise DfkdError(
                f"{path} is not the published {name} (its sha256 differs): truncated or another data set; replace it"
            )
        return content

    def fetch(self, name: str) -> None:
        self.downloaded(f"{name}.gz", lambda path: {name: self._unzipped(path, name)})

    def _unzipped(self, path: Path, name: str) -> bytes:
        """The download's content, which is checked: headers of gzip, and so sums of it, differ between mirrors."""
        try:
            with gzip.open(path) as file:
                content = at_most(file)
        except UNZIP_ERRORS as error:
            raise DfkdError(f"the download of {name} is damaged ({error}); try again") from error
        if hashlib.sha256(content).hexdigest() != self.sha256[name]:
            raise DfkdError(f"the download of {name} is not the published file (its sha256 differs); try again")
        return content


def at_most(file: BufferedIOBase) -> bytes:
    """What a file holds. Raises ValueError if that is more than the largest has."""
    content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"it holds more than {LARGEST_FILE:,} bytes")
    return content


def read_idx(content: bytes) -> Tensor:
    """The uint8 tensor in an IDX file's (uncompressed) content. Source: LeCun's description of the format."""
    import torch

    zero, kind, dimensions = struct.unpack(">HBB", content[:4])
    if zero != 0 or kind != 0x08:
        raise DfkdError("not an IDX file of unsigned bytes")
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * dimensions).reshape(shape)


@dataclass
class Mnist(IdxData):
    """MNIST: 60,000 + 10,000 handwritten digits, 28x28 (LeCun, Cortes, Burges)."""

    folders: ClassVar[tuple[str, ...]] = ("mnist", "MNIST", "MNIST/raw")
    url: ClassVar[str] = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    class_names: ClassVar[list[str]] = DIGITS
    sha256: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }


@dataclass
class FashionMnist(IdxData):
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing, 28x28 (Xiao, Rasul, Vollgraf)."""

    folders: ClassVar[tuple[str, ...]] = ("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw")
    url: ClassVar[str] = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    class_names: ClassVar[list[str]] = CLOTHES
    sha256: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
