"""Which split of a table is to test on, which column holds the labels, and what these are as numbers. Pure functions."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from dfkd_exp.data.splits import in_order, part_of
from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief

IMAGE_COLUMNS = ("image", "img", "images", "picture", "photo", "pixels", "pixel_values", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "category", "target", "cls", "class_label", "y")
"""What people call their columns, in small letters: the first that is there is it."""


def find_column(columns: Sequence[str], usual: Sequence[str], typed: Sequence[str], place: str, flag: str) -> str:
    """The column of a usual name, or else the only one whose type says it (``typed``). Raises DfkdError with the ``flag`` to name one."""
    by_name = {column.lower(): column for column in reversed(columns)}
    if named := [by_name[name] for name in usual if name in by_name]:
        return named[0]
    if len(typed) == 1:
        return typed[0]
    raise DfkdError(
        f"{place}: which of its columns {', '.join(map(brief, columns))} holds the {usual[0]}s? Say {flag}=NAME"
    )


def find_train(splits: Sequence[str], place: str) -> str:
    """The split that is called train, or the only one."""
    called = [split for split in splits if part_of(split) == "train"]
    if len(called) == 1 or len(splits) == 1:
        return (called or list(splits))[0]
    raise DfkdError(
        f"{place}: which of its splits {', '.join(map(brief, splits))} is to train on? Say data.train_split=NAME"
    )


def find_tests(splits: Sequence[str]) -> list[str]:
    """The splits that may be tested on, first those that are called test, then those for validation."""
    return [split for part in ("test", "val") for split in splits if part_of(split) == part]


def every_nth_held_out(labels: Sequence[int], each: int) -> tuple[list[int], list[int]]:
    """The indices to train on, and to test on: of each class every ``each``-th."""
    seen: dict[int, int] = {}
    train: list[int] = []
    test: list[int] = []
    for index, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        (train if seen[label] % each else test).append(index)
    return train, test


class ColumnClasses:
    """The ``classes`` that labels of a training split are, and the number of each label: named ones as they are, whole numbers from their
    smallest on, words in their order. Raises DfkdError, with the ``place``, for labels that are several classes, or none of these."""

    def __init__(self, values: Iterable[Any], names: Sequence[str] | None, place: str):
        found = {value for value in (plain(value, place) for value in values) if not is_missing(value)}
        self.note = ""
        if names is not None:
            self.classes, known = list(names), list(range(len(names)))
        elif found and all(isinstance(value, int) for value in found):
            known = list(range(min(found), max(found) + 1))
            self.classes = [str(value) for value in known]
            self.note = f"labels begin with {known[0]}, which is the first class" if known[0] else ""
        elif all(isinstance(value, str) for value in found):
            self.classes = known = in_order(found)  # type: ignore[assignment]
        else:
            kinds = sorted({type(value).__name__ for value in found})
            raise DfkdError(f"{place}: labels are {' and '.join(kinds)}; give words, or whole numbers")
        self._numbers: dict[Hashable, int] = {value: number for number, value in enumerate(known)}

    def numbers(self, values: Iterable[Any], place: str) -> list[int]:
        """The labels of a split as numbers; -1 for none. Raises DfkdError for one that the training split has not."""
        found = []
        for value in (plain(value, place) for value in values):
            if not is_missing(value) and value not in self._numbers:
                raise DfkdError(
                    f"{place} has the label {brief(repr(value))}, which the images to train on have not; leave it out"
                )
            found.append(self._numbers.get(value, -1))
        return found


def is_missing(label: Any) -> bool:
    return label is None or label == "" or (isinstance(label, int) and label < 0)


def plain(label: Any, place: str) -> Any:
    """A label as an int, a word or None. Raises DfkdError for several."""
    if isinstance(label, list | tuple | dict) or hasattr(label, "tolist"):
        label = label.tolist() if hasattr(label, "tolist") else label
        if isinstance(label, dict) or (isinstance(label, list | tuple) and len(label) != 1):
            raise DfkdError(
                f"{place} has a label of {len(label)} values, {brief(repr(label))}: images of several classes are not supported; choose a "
                "column with one label for each, by data.label_column"
            )
        label = label[0] if isinstance(label, list | tuple) else label
    return int(label) if isinstance(label, bool) or (isinstance(label, float) and label.is_integer()) else label
