"""A table that says of which class each image is, as people write it: with or without a header, by commas, semicolons, tabs or blanks,
files with or without their folder and ending."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from dfkd_exp.data.listing import IMAGES, ending
from dfkd_exp.data.splits import part_of
from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief

MOST_BYTES = 2**28
"""Of a table that is read: enough for some millions of lines."""
LABELS = (
    "label",
    "labels",
    "class",
    "classid",
    "classname",
    "category",
    "categoryid",
    "target",
    "y",
    "species",
    "breed",
    "diagnosis",
    "tag",
)
"""What people call the column of labels, in small letters alone; the first is it wherever it is."""
LOOKED_AT = 100
"""Lines by which it is found out in which column the files are."""

Row = tuple[str | None, str, str]
"""The part, if one is said; the class; and the image."""


def read_table(content: bytes, name: str, images: Sequence[str], place: str) -> tuple[list[Row], list[str]]:
    """What a table called ``name`` says of the ``images`` that are in ``place``, and what a person should know of it. Raises DfkdError,
    with the line or the columns, for what has more than one meaning."""
    lines = _lines(content, name)
    find = Finder(images)
    column = _file_column(lines, find, name, place)
    header = [] if find(lines[0][column]) else [_letters(cell) for cell in lines[0]]
    body = lines[1:] if header else lines
    parts = _part_column(header, body, column, name)
    labels = _label_column(lines[0], header, column, parts, name)
    found: dict[str, tuple[str | None, str]] = {}
    num_missing = 0
    for number, line in enumerate(body, start=2 if header else 1):
        if not (image := find(line[column])):
            num_missing += 1
            continue
        if not line[labels]:
            raise DfkdError(f"data.labels={name}, line {number}, says no class; add it or remove the line")
        said = part_of(line[parts]) if parts is not None else None, line[labels]
        if found.setdefault(image, said) != said:
            raise DfkdError(
                f"data.labels={name} has {brief(line[column])} twice, as {brief(found[image][1])} and as {brief(said[1])}: images of more "
                "than one class are not supported; keep one line"
            )
    notes = []
    if num_missing:
        notes.append(f"{num_missing:,} of the {len(body):,} files that {name} names are not there")
    if left := len(images) - len(found):
        notes.append(f"{left:,} images of which {name} says nothing are left out")
    return [(part, label, image) for image, (part, label) in _by_folder(found).items()], notes


def _by_folder(found: dict[str, tuple[str | None, str]]) -> dict[str, tuple[str | None, str]]:
    """The same with the parts that all images' outermost folders say, where no column says them."""
    folders = {
        image: next((part for name in image.split("/")[:-1] if (part := part_of(name))), None) for image in found
    }
    if any(part for part, _ in found.values()) or None in folders.values() or len(set(folders.values())) < 2:
        return found
    return {image: (folders[image], label) for image, (_, label) in found.items()}


class Finder:
    """``find(cell)``: the image that a cell of a table means, or None. Either may have folders that the other lacks, and the cell no
    ending. Raises DfkdError where that could be several."""

    def __init__(self, images: Sequence[str]):
        self._by_stem: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for image in images:
            self._by_stem[PurePosixPath(image).stem].append(tuple(image.split("/")))

    def __call__(self, cell: str) -> str | None:
        *above, last = [part for part in cell.replace("\\", "/").split("/") if part not in ("", ".")] or [""]
        has_ending = ending(last) in IMAGES
        matching = []
        for image in self._by_stem.get(PurePosixPath(last).stem if has_ending else last, ()):
            common = min(len(above), len(image) - 1)
            same_folders = list(image[len(image) - 1 - common : -1]) == above[len(above) - common :]
            if same_folders and (not has_ending or image[-1] == last):
                matching.append("/".join(image))
        if len(matching) > 1:
            raise DfkdError(
                f"data.labels: {brief(cell)} could be {brief(matching[0])} or {brief(matching[1])}; write its folder before it"
            )
        return matching[0] if matching else None


def _lines(content: bytes, name: str) -> list[list[str]]:
    """The cells of a table, without blanks around them; lines without any are passed over, and short ones filled."""
    try:
        text = content.decode("utf-8-sig")
        first = next((line for line in text.splitlines() if line.strip()), "")
        divider = next((mark for mark in ",;\t|" if mark in first), " ")
        rows = csv.reader(text.splitlines(), delimiter=divider, skipinitialspace=True)
        lines = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DfkdError(
            f"data.labels={name} is not a table of UTF-8 text ({brief(str(error))}); save it as CSV"
        ) from error
    if not lines or len(lines[0]) < 2:
        raise DfkdError(
            f"data.labels={name} must have a column of files and one of classes; it has {len(lines)} lines of one"
        )
    return [line[: len(lines[0])] + [""] * (len(lines[0]) - len(line)) for line in lines]


def _letters(cell: str) -> str:
    return "".join(letter for letter in cell.lower() if letter.isalnum())


def _file_column(lines: list[list[str]], find: Finder, name: str, place: str) -> int:
    some = lines[: LOOKED_AT + 1]
    cells = [[line[column] for line in some if find(line[column])] for column in range(len(lines[0]))]
    # A class may be called as some image is; but it has no ending, and there are more files than classes.
    hits = [(sum(ending(cell) in IMAGES for cell in found), len(set(found))) for found in cells]
    if not any(cells):
        raise DfkdError(
            f"data.labels={name}: nothing in its first lines is the name of an image in {place}, as {brief(', '.join(some[-1]))}; give "
            "the files' names as they are there"
        )
    return hits.index(max(hits))


def _part_column(header: list[str], body: list[list[str]], files: int, name: str) -> int | None:
    """The column of parts: one in which all cells are words for them."""
    for column in range(len(body[0]) if body else 0):
        cells = {line[column] for line in body}
        if column != files and all(map(part_of, cells)):
            return column
        if header and header[column] == "split":
            odd = brief(next(cell for cell in cells if not part_of(cell)))
            raise DfkdError(f"data.labels={name}: its column {header[column]} says {odd!r}; write train, val or test")
    return None


def _label_column(titles: list[str], header: list[str], files: int, parts: int | None, name: str) -> int:
    left = [column for column in range(len(titles)) if column not in (files, parts)]
    usual = [column for column in left if header and header[column] in LABELS]
    for choice in ([column for column in usual if header[column] == LABELS[0]], usual, left):
        if len(choice) == 1:
            return choice[0]
        if choice is usual and len(usual) > 1:
            break
    which = ", ".join(brief(titles[column]) for column in usual or left) or "none"
    raise DfkdError(
        f"data.labels={name}: which column is the class? It could be {which}; call one of them label, or leave the others out"
    )
