"""CIFAR-10 and CIFAR-100 in their official binary form: records of labels and 32x32 colour pixels, which nobody need unpickle."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp import console
from dfkd_exp.data.published import PublishedData
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import regular_size

if TYPE_CHECKING:
    from dfkd_exp.data.images import ImageData, LabelledImages

PIXELS = 3 * 32 * 32
LARGEST_FILE = 2**28
"""Bytes of a file of these data sets, of which the largest has 154 million."""
OFFICIAL = 50_000, 10_000


@dataclass
class CifarData(PublishedData):
    """Files of records: so many labels, of which the last is the class, and 3,072 bytes of pixels, channel by channel.

    The authors publish the sum of the archive alone; of files that lie unpacked, sizes and labels are checked, and their content is part
    of what identifies the data, since copies in another order are about.
    """

    url: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/"
    archive: ClassVar[str] = ""
    sha256: ClassVar[str] = ""
    """Of the archive."""
    train_files: ClassVar[tuple[str, ...]] = ()
    test_file: ClassVar[str] = ""
    names_file: ClassVar[str] = ""
    num_classes: ClassVar[int] = 10
    labels_per_record: ClassVar[int] = 1

    def fingerprint(self) -> dict[str, Any]:
        return {
            **self.identity(),
            "sha256": {name: hashlib.sha256(self._content(name)).hexdigest() for name in self._names},
        }

    @property
    def _names(self) -> list[str]:
        return [*self.train_files, self.test_file, self.names_file]

    def read(self) -> ImageData:
        from dfkd_exp.data.images import ImageData

        train, test = self._part(self.train_files), self._part([self.test_file])
        if (len(train), len(test)) != OFFICIAL:
            console.note(f"{len(train):,} training and {len(test):,} test images, of the published 50,000 and 10,000")
        return ImageData(train.padded(self.pad), test.padded(self.pad), self._classes(), bytes_per_image=PIXELS)

    def _part(self, names: Sequence[str]) -> LabelledImages:
        import torch

        from dfkd_exp.data.images import LabelledImages

        contents = {name: self._content(name) for name in names}
        width = self.labels_per_record + PIXELS
        for name, content in contents.items():
            if not content or len(content) % width:
                raise DfkdError(
                    f"{self.find(name)} has {len(content):,} bytes, which are no whole number of records of {width:,}: truncated or "
                    "another file; replace it"
                )
        records = torch.frombuffer(bytearray(b"".join(contents.values())), dtype=torch.uint8).view(-1, width)
        labels = records[:, self.labels_per_record - 1].long()
        if (largest := int(labels.max())) >= self.num_classes:
            raise DfkdError(
                f"{self.find(names[0])}: a label is {largest}, and {type(self).__name__} has {self.num_classes} classes from 0: "
                "another data set; replace it"
            )
        return LabelledImages(records[:, self.labels_per_record :].reshape(-1, 3, 32, 32), labels)

    def _classes(self) -> list[str]:
        names = [name.strip() for name in self._content(self.names_file).decode("utf-8", "replace").splitlines()]
        names = [name for name in names if name]
        if len(names) != self.num_classes:
            raise DfkdError(
                f"{self.find(self.names_file)} names {len(names)} classes, not {self.num_classes}; replace it"
            )
        return names

    def _content(self, name: str) -> bytes:
        path = self.find(name)
        try:
            if regular_size(path) > LARGEST_FILE:
                raise ValueError(f"it holds more than {LARGEST_FILE:,} bytes")
            return path.read_bytes()
        except (OSError, ValueError) as error:
            raise DfkdError(f"{path} cannot be read ({error}); replace it") from error

    def fetch(self, name: str) -> None:
        """Download the archive, and put its files into the cache."""
        self.downloaded(self.archive, self._unpacked)

    def _unpacked(self, path: Path) -> dict[str, bytes]:
        """The files of the archive, which is checked against the published sum before anything reads it."""
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.sha256:
                raise DfkdError(
                    f"the download of {self.archive} is not the published file (its sha256 differs); try again, or put {self.files} into a "
                    "folder and set data.root to it"
                )
        with tarfile.open(path, "r:gz") as archive:
            members = {PurePosixPath(member.name).name: member for member in archive if member.isfile()}
            return {name: archive.extractfile(members[name]).read() for name in self._names}  # type: ignore[union-attr]


@dataclass
class Cifar10(CifarData):
    """CIFAR-10: 50,000 + 10,000 photographs of ten kinds of things, 32x32 (Krizhevsky 2009)."""

    folders: ClassVar[tuple[str, ...]] = ("cifar-10-batches-bin", "cifar10", "cifar10/cifar-10-batches-bin")
    files: ClassVar[str] = "what is in cifar-10-binary.tar.gz (the pickled version is never read)"
    archive: ClassVar[str] = "cifar-10-binary.tar.gz"
    sha256: ClassVar[str] = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    train_files: ClassVar[tuple[str, ...]] = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
    test_file: ClassVar[str] = "test_batch.bin"
    names_file: ClassVar[str] = "batches.meta.txt"


@dataclass
class Cifar100(CifarData):
    """CIFAR-100: 50,000 + 10,000 photographs of a hundred kinds of things, 32x32 (Krizhevsky 2009); classes are the fine ones."""

    folders: ClassVar[tuple[str, ...]] = ("cifar-100-binary", "cifar100", "cifar100/cifar-100-binary")
    files: ClassVar[str] = "what is in cifar-100-binary.tar.gz (the pickled version is never read)"
    archive: ClassVar[str] = "cifar-100-binary.tar.gz"
    sha256: ClassVar[str] = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
    train_files: ClassVar[tuple[str, ...]] = ("train.bin",)
    test_file: ClassVar[str] = "test.bin"
    names_file: ClassVar[str] = "fine_label_names.txt"
    num_classes: ClassVar[int] = 100
    labels_per_record: ClassVar[int] = 2
