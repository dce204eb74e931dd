"""MNIST and Fashion-MNIST: four IDX files, found on disk or downloaded, and always checked."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.data.base import Data
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
class IdxData(Data):
    """Looks in ``data.root``, then in ``$DFKD_DATA_DIR``, then in the cache, then downloads.

    In each folder the files may lie directly, in a sub-folder with the data set's name, or in torchvision's ``raw/``;
    gzipped or not. Whatever is read is checked against the published sha256 of the uncompressed file.
    """

    ephemeral: ClassVar[tuple[str, ...]] = ("root", "download")
    folders: ClassVar[tuple[str, ...]] = ()
    url: ClassVar[str] = ""
    sha256: ClassVar[dict[str, str]] = {}
    class_names: ClassVar[list[str]] = []

    root: str | None = None
    """Folder with the IDX files; empty: $DFKD_DATA_DIR, then the cache, then a download."""
    download: bool = True
    """Whether missing files may be downloaded."""

    def fingerprint(self) -> dict[str, Any]:
        return {**self.identity(), "sha256": self.sha256}

    def load(self) -> ImageData:
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
        path = self._find(name)
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

    def _find(self, name: str) -> Path:
        if self.root is not None and not Path(self.root).is_dir():
            raise DfkdError(f"data.root={self.root} is not a folder")
        roots = [self.root] if self.root is not None else [os.environ.get("DFKD_DATA_DIR"), str(self._cache())]
        tried = []
        for root in filter(None, roots):
            for folder in ("", *self.folders):
                for ending in ("", ".gz"):
                    path = Path(root, folder, name + ending)
                    if path.is_file():
                        return path
            tried.append(str(root))
        if self.download and self.root is None:
            return self._download(name)
        raise DfkdError(
            f"{name} of {type(self).__name__} is not in {' or '.join(tried)}; set data.root or DFKD_DATA_DIR to the "
            "folder that holds the four IDX files, or leave data.root empty and set data.download=true"
        )

    def _cache(self) -> Path:
        import pooch

        return Path(os.environ.get("DFKD_CACHE_DIR") or pooch.os_cache("dfkd_exp"), self.folders[0])

    def _download(self, name: str) -> Path:
        import pooch

        pooch.get_logger().setLevel("WARNING")  # it would print a hash to paste into our code
        try:
            return Path(
                pooch.retrieve(
                    self.url + name + ".gz",
                    known_hash=None,  # gzip headers differ between mirrors; the content is checked, here and on reading
                    fname=name,
                    path=self._cache(),
                    processor=_Verified(self.sha256[name]),
                    progressbar=_RichBar(name),
                )
            )
        except OSError as error:
            raise DfkdError(
                f"{name} could not be downloaded from {self.url} ({type(error).__name__}); put the four IDX files into a "
                "folder and set data.root or DFKD_DATA_DIR to it"
            ) from error


class _Verified:
    """A pooch processor: decompress beside the download, check the sha256, and only then give it its name."""

    def __init__(self, sha256: str):
        self.sha256 = sha256

    def __call__(self, fname: str, action: str, pooch: Any) -> str:
        target = Path(fname + ".raw")
        try:
            with gzip.open(fname) as file:
                content = at_most(file)
        except UNZIP_ERRORS as error:
            raise DfkdError(f"the download of {Path(fname).name} is damaged ({error}); try again") from error
        finally:
            Path(fname).unlink()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DfkdError(
                f"the download of {Path(fname).name} is not the published file (its sha256 differs); try again"
            )
        target.write_bytes(content)
        os.replace(target, fname)
        return fname


class _RichBar:
    """pooch's progress-bar protocol (``total``, ``update``, ``reset``, ``close``) on the project's own progress bar."""

    def __init__(self, name: str):
        self.name, self.total = name, 0
        self._bar: Any = None

    def update(self, amount: int) -> None:
        from dfkd_exp.console import Progress

        self._bar = self._bar or Progress(f"download {self.name}", self.total)
        self._bar.advance(amount)

    def reset(self) -> None:
        """pooch resets the bar just before it closes it."""

    def close(self) -> None:
        if self._bar:
            self._bar.close()


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
