"""Somebody's own images: one folder per class, ``train/`` and ``test/`` of such, or a table that says of which class each is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp import console
from dfkd_exp.data.decoded import Part, Photographs
from dfkd_exp.data.files import read_image
from dfkd_exp.data.folder_tree import Tree, split_folders
from dfkd_exp.data.label_table import MOST_BYTES, read_table
from dfkd_exp.data.listing import CONVERT, TABLES, UNREADABLE, Listing, counted, ending, list_files
from dfkd_exp.data.splits import Labelled, Split, in_order, order_note, require_known, split_rows
from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, in_brief
from dfkd_exp.settings import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ImageFolder(Photographs):
    """``path/CLASS/*.png`` (a share is held out for testing) or ``path/train/CLASS/*`` and ``path/test/CLASS/*``, by any of the usual
    names for these; in a folder, or in an archive that is read where it is.

    Images are turned as their EXIF says, of several frames the first is taken, and 16 bits become 8. One that is transparent anywhere, uses
    fewer than 15 of its 16 bits, or has more than 67 megapixels is refused by name.
    """

    ephemeral: ClassVar[tuple[str, ...]] = ("path", "labels")

    path: str = ""
    """The folder, or an archive of it: .zip, .tar, .tar.gz."""
    classes: list[Any] = field(default_factory=list)
    """The classes in the order of the teacher's logits, where not all are wanted or their order is another than that of numbers or text."""
    labels: str | None = None
    """A table of files and classes (.csv, .tsv, .txt), in the folder or elsewhere; a column may say of which part (train, test) each is."""
    test_fraction: float = 0.2
    """Share of each class held out for testing, where the folder has no test/. Chosen by the file's name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("path", bool(self.path), "a folder or an archive (data.path=…)")
        self.classes = [str(name) for name in self.classes]  # 0 and 10 are names too
        self.require(
            "classes", len(set(self.classes)) == len(self.classes) != 1, "two names or more, none of them twice"
        )
        is_table = not self.labels or ending(self.labels) in TABLES
        self.require(
            "labels", is_table, f"a table ({', '.join(sorted(TABLES))}): convert it, or rename it if it is one"
        )
        self.require("test_fraction", 0 < self.test_fraction < 1, "between 0 and 1")

    def fingerprint(self) -> dict[str, Any]:
        stamps, split = self._listing.files, self._split
        parts = {"train": split.train, "test": split.test}
        rows = [f"{part} {name} {stamps[name]}" for part, labelled in parts.items() for _, name in labelled]
        labels = [label for labelled in parts.values() for label, _ in labelled]
        said = "\n".join([*split.classes, *labels, *rows])
        return {**self.identity(), "files": hashlib.sha256(said.encode(errors="surrogateescape")).hexdigest()}

    def find(self) -> tuple[list[str], dict[str, Part]]:
        split = self._split
        return split.classes, {"train": self._part(split.train), "test": self._part(split.test)}

    def _part(self, labelled: list[Labelled]) -> Part:
        listing, number = self._listing, {name: label for label, name in enumerate(self._split.classes)}

        def name(index: int) -> str:
            return listing.title(labelled[index][1])

        def read(index: int) -> Tensor:
            def opened() -> Any:
                return listing.open(labelled[index][1])

            return read_image(name(index), opened, self.pixels)

        return Part([number[label] for label, _ in labelled], read, name)

    @cached_property
    def _listing(self) -> Listing:
        return list_files(Path(self.path), self.named("path"))

    @cached_property
    def _split(self) -> Split:
        listing = self._listing
        split = self._labelled() if self.labels else self._in_folders()
        notes = [listing.note, "" if self.classes else order_note(split.classes), *split.notes]
        for note in filter(None, notes):
            console.note(f"data.path={self.path}: {note}")
        if unread := split.unread:
            console.warn(
                f"data.path={self.path}: {counted(unread)} among its images are of kinds that are not read, and are left out: "
                f"{CONVERT} ({brief(listing.title(unread[0]))})"
            )
        return split

    def _in_folders(self) -> Split:
        listing = self._listing
        tables = [name for name in listing.files if ending(name) in TABLES and ending(name) != ".txt"]
        tree = Tree([*listing.images, *listing.unread], listing.folders)
        return split_folders(tree, self.path, self.test_fraction, self.classes, tables)

    def _labelled(self) -> Split:
        listing, name = self._listing, str(self.labels)
        rows, notes = read_table(self._table(name), name, listing.images, self.path)
        known = in_order({label for _, label, _ in rows})
        require_known(self.classes, known, name)
        classes = self.classes or known
        if len(classes) < 2:
            raise DfkdError(f"data.labels={name} must have at least two classes; it has {len(classes)}")
        split = split_rows(classes, [row for row in rows if row[1] in classes], self.test_fraction, self.path)
        split.notes.extend(notes)
        split.unread.extend(listing.unread)
        return split

    def _table(self, name: str) -> bytes:
        """The bytes of the table: from where the images are, hidden or not, or from the disk."""
        listing = self._listing
        on_disk = beside if (beside := Path(self.path, name)).is_file() else Path(name)
        try:
            with listing.open(name) if name in listing.files else on_disk.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except UNREADABLE as error:
            if isinstance(error, FileNotFoundError):
                close = did_you_mean(name, [other for other in listing.files if ending(other) in TABLES])
                raise DfkdError(
                    f"data.labels={name}: it is neither in {self.path} nor a file; check its name{close}"
                ) from error
            raise DfkdError(f"data.labels={name} cannot be read ({in_brief(error)})") from error
        self.require("labels", len(content) <= MOST_BYTES, f"a table of at most {MOST_BYTES:,} bytes")
        return content
