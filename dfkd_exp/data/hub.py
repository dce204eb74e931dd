"""Any image-classification data set of the Hugging Face Hub, or in that library's formats on disk (extra: ``hub``)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp import console
from dfkd_exp.data import columns
from dfkd_exp.data.decoded import DecodedData, Part
from dfkd_exp.data.files import MODES, opened, readable, to_tensor
from dfkd_exp.data.image_folder import ImageFolder
from dfkd_exp.data.listing import IMAGES
from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, in_brief

if TYPE_CHECKING:
    from torch import Tensor

SAVED = ("dataset_dict.json", "state.json")
"""What lies in a folder that the library's ``save_to_disk`` wrote."""
EACH_TO_TEST = 5
"""Without a split to test on, every fifth image of each class."""


@dataclass
class Hub(DecodedData):
    """``data=hub data.name=ylecun/mnist``; a local folder works as a name too: of parquet files, of what the library saved, or of images
    in folders of their classes. Columns and splits are found by their usual names; labels are numbers, words or named classes."""

    name: str = ""
    """Name on the Hub, or a local folder."""
    subset: str | None = None
    """The data set's configuration, where it has several."""
    revision: str | None = None
    """Commit or tag; name one for results that others can repeat."""
    train_split: str | None = None
    """Split to train on; empty: the one that is called so."""
    test_split: str | None = None
    """Split to test on; empty: test or, if there is none or it has no labels, validation; else every fifth image of each class."""
    image_column: str | None = None
    """Column with the images; empty: the one that is called image, img or the like."""
    label_column: str | None = None
    """Column with the labels; empty: the one that is called label, fine_label or the like."""
    size: int | None = None
    """Resize to size x size pixels; empty: all images must already have one size."""
    channels: int = 3
    """1 (grey) or 3 (colour); images are converted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("name", bool(self.name), "a data set of the Hub or a local folder (data.name=…)")
        self.require("channels", self.channels in MODES, "1 or 3")
        self.require_size()

    def fingerprint(self) -> dict[str, Any]:
        if self._as_folder is not None:
            return self._as_folder.fingerprint()
        folder = Path(self.name)
        abouts = (
            [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
        )
        rows = [f"{path.relative_to(folder)} {about.st_size} {about.st_mtime_ns}" for path, about in abouts]
        return (
            {**self.identity(), "files": hashlib.sha256("\n".join(rows).encode()).hexdigest()}
            if rows
            else self.identity()
        )

    @cached_property
    def _as_folder(self) -> ImageFolder | None:
        """The local folder as one of images, if it holds no tables."""
        folder = Path(self.name)
        if (
            not folder.is_dir()
            or self.test_split
            or self.train_split
            or any((folder / name).is_file() for name in SAVED)
        ):
            return None
        endings = {path.suffix.lower() for path in folder.rglob("*") if path.is_file()}
        if not endings & IMAGES or endings & {".parquet", ".arrow", ".jsonl", ".json", ".csv", ".tar", ".zip"}:
            return None
        return ImageFolder(
            pad=self.pad, mean=self.mean, std=self.std, path=self.name, size=self.size, channels=self.channels
        )

    def find(self) -> tuple[list[str], dict[str, Part]]:
        if self._as_folder is not None:
            return self._as_folder.find()
        whole = self._dataset()
        for flag in ("train_split", "test_split"):
            self._require_one_of(list(whole), getattr(self, flag), "split", "data.train_split, data.test_split")
        train = self.train_split or columns.find_train(list(whole), self.name)
        names, features = whole[train].column_names, whole[train].features
        for said in (self.image_column, self.label_column):
            self._require_one_of(names, said, "column", "data.image_column, data.label_column")
        image = self.image_column or columns.find_column(
            names, columns.IMAGE_COLUMNS, _of_type(features, "Image"), self.name, "data.image_column"
        )
        label = self.label_column or columns.find_column(
            names, columns.LABEL_COLUMNS, _of_type(features, "ClassLabel"), self.name, "data.label_column"
        )
        values = list(whole[train][label])
        known = columns.Classes(
            values, getattr(features[label], "names", None), f"{self.name}, column {brief(label)!r},"
        )
        numbers = {train: known.numbers(values, self._called(train))}
        test = self.test_split
        for split in [test] if test else columns.find_tests([name for name in whole if name != train]):
            numbers[split] = known.numbers(whole[split][label], self._called(split))
            if not test and numbers[split] and min(numbers[split]) >= 0:
                test = split
        for split in filter(None, (train, test)):
            if min(numbers[split], default=0) < 0:
                raise DfkdError(
                    f"{self._called(split)} has images without a label (-1); choose another split with labels"
                )
        rows = {train: list(range(len(numbers[train])))}
        if test:
            parts = {"train": (train, rows[train]), "test": (test, list(range(len(numbers[test]))))}
        else:
            to_train, to_test = columns.held_out(numbers[train], EACH_TO_TEST)
            parts = {"train": (train, to_train), "test": (train, to_test)}
        self._tell(train, test, list(whole), image, label, known)
        return known.classes, {
            part: self._part(whole[split], split, index, [numbers[split][row] for row in index], image)
            for part, (split, index) in parts.items()
        }

    def _tell(
        self, train: str, test: str | None, splits: list[str], image: str, label: str, known: columns.Classes
    ) -> None:
        """What was found otherwise than by the names that are expected."""
        notes = [] if (image, label) == ("image", "label") else [f"images are in column {image}, labels in {label}"]
        if test is None:
            notes.append(f"it has no split with labels to test on: every fifth image of {train} is held out")
        elif (train, test) != ("train", "test"):
            notes.append(f"trained on {train}, figures are of {test}")
        if known.note:
            notes.append(known.note)
        for note in notes:
            console.note(f"data.name={self.name}: {note}")

    def _dataset(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise DfkdError("data=hub needs the Hugging Face library: pip install 'dfkd_exp[hub]'") from error
        try:
            if any(Path(self.name, name).is_file() for name in SAVED):
                whole = datasets.load_from_disk(self.name)
            else:
                subset = {"name": self.subset} if self.subset else {}
                whole = datasets.load_dataset(self.name, revision=self.revision, **subset)
        except Exception as error:  # the library raises many kinds, from many layers
            several = "; choose one: data.subset=NAME" if "onfig name is missing" in str(error) else ""
            raise DfkdError(
                f"data.name={self.name} could not be loaded ({in_brief(error)}){several}; "
                "check the name and the network, or give a local folder"
            ) from error
        return whole if isinstance(whole, dict) else {"train": whole}

    def _require_one_of(self, known: Sequence[str], said: str | None, what: str, flags: str) -> None:
        if said and said not in known:
            raise DfkdError(f"{self.name} has no {what} {said!r}, only {', '.join(map(brief, known))}; set {flags}")

    def _called(self, split: str) -> str:
        return f"{self.name}: split {split!r}"

    def _part(self, table: Any, split: str, rows: list[int], labels: list[int], column: str) -> Part:
        def name(index: int) -> str:
            return f"image {rows[index]} of {self.name}, split {split!r},"

        def read(index: int) -> Tensor:
            value = table[rows[index]][column]
            return readable(name(index), lambda: to_tensor(opened(value), self.channels, self.size))

        return Part(labels, read, name)


def _of_type(features: Any, name: str) -> list[str]:
    """The columns whose type is so called."""
    return [column for column, kind in features.items() if type(kind).__name__ == name]
