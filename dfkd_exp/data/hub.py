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
from dfkd_exp.data.decoded import Part, Photographs
from dfkd_exp.data.files import opened, readable
from dfkd_exp.data.image_folder import ImageFolder
from dfkd_exp.data.listing import IMAGES
from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, in_brief

if TYPE_CHECKING:
    from torch import Tensor

SAVED = ("dataset_dict.json", "state.json")
"""What lies in a folder that the library's ``save_to_disk`` wrote."""
TABLES = {".parquet", ".arrow", ".jsonl", ".json", ".csv", ".tar", ".zip"}
"""Endings of files that the library reads, unlike a plain folder of images."""
EACH_TO_TEST = 5
"""Without a split to test on, every fifth image of each class."""


@dataclass
class Hub(Photographs):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("name", bool(self.name), "a data set of the Hub or a local folder (data.name=…)")

    def fingerprint(self) -> dict[str, Any]:
        if self._as_folder is not None:
            return self._as_folder.fingerprint()
        if not (folder := Path(self.name)).is_dir():
            return self.identity()
        abouts = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
        rows = [f"{path.relative_to(folder)} {about.st_size} {about.st_mtime_ns}" for path, about in abouts]
        return {**self.identity(), "files": hashlib.sha256("\n".join(rows).encode()).hexdigest()}

    @cached_property
    def _as_folder(self) -> ImageFolder | None:
        """The local folder as one of images, if it holds no tables."""
        folder = Path(self.name)
        if not folder.is_dir() or self.test_split or self.train_split:
            return None
        endings = {path.suffix.lower() for path in folder.rglob("*") if path.is_file()}
        if not endings & IMAGES or endings & TABLES:
            return None
        same = {name: getattr(self, name) for name in ("pad", "mean", "std", "limit", "size", "crop", "channels")}
        return ImageFolder(path=self.name, **same)

    def find(self) -> tuple[list[str], dict[str, Part]]:
        if self._as_folder is not None:
            return self._as_folder.find()
        whole = self._dataset()
        for said in (self.train_split, self.test_split):
            self._require_one_of(list(whole), said, "split", "data.train_split, data.test_split")
        train = self.train_split or columns.find_train(list(whole), self.name)
        image, label = self._columns(whole[train])
        values, place = list(whole[train][label]), f"{self.name}, column {brief(label)!r},"
        known = columns.ColumnClasses(values, getattr(whole[train].features[label], "names", None), place)
        numbers = {train: known.numbers(values, self._called(train))}
        test = self.test_split
        for split in [test] if test else columns.find_tests([name for name in whole if name != train]):
            numbers[split] = known.numbers(whole[split][label], self._called(split))
            if test is None and min(numbers[split], default=-1) >= 0:
                test = split
                break
        for split in filter(None, (train, test)):
            if min(numbers[split], default=0) < 0:
                raise DfkdError(
                    f"{self._called(split)} has images without a label (-1); choose another split with labels"
                )
        if test is None:
            to_train, to_test = columns.every_nth_held_out(numbers[train], EACH_TO_TEST)
        else:
            to_train, to_test = list(range(len(numbers[train]))), list(range(len(numbers[test])))
        self._tell(train, test, image, label, known)
        parts = {"train": (train, to_train), "test": (test or train, to_test)}
        return known.classes, {
            part: self._part(whole[split], split, rows, [numbers[split][row] for row in rows], image)
            for part, (split, rows) in parts.items()
        }

    def _columns(self, table: Any) -> tuple[str, str]:
        """Those of the images and of the labels: as they are said, or found."""
        found: list[str] = []
        for flag, usual, kind in (
            ("image_column", columns.IMAGE_COLUMNS, "Image"), ("label_column", columns.LABEL_COLUMNS, "ClassLabel"),
        ):  # fmt: skip
            said = getattr(self, flag)
            self._require_one_of(table.column_names, said, "column", "data.image_column, data.label_column")
            typed = [column for column, feature in table.features.items() if type(feature).__name__ == kind]
            if not typed and found and len(left := set(table.column_names) - set(found)) == 1:
                typed = [*left]
            found.append(said or columns.find_column(table.column_names, usual, typed, self.name, self.named(flag)))
        image, label = found
        return image, label

    def _tell(self, train: str, test: str | None, image: str, label: str, known: columns.ColumnClasses) -> None:
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
        only = table.select_columns(column)

        def name(index: int) -> str:
            return f"image {rows[index]} of {self.name}, split {split!r},"

        def read(index: int) -> Tensor:
            # The library decodes it when it is asked for it.
            return readable(name(index), lambda: self.pixels(opened(only[rows[index]][column])))

        return Part(labels, read, name)
