"""Which of a list of names are to train and to test on, and of which class: the words that people have for it.

Pure functions: nothing is opened.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief
from dfkd_exp.settings import did_you_mean

PARTS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
}
"""The parts of a data set by the words for them."""
AROUND = r"(?:set|data|dataset|split|part|images?|imgs?|folder)?"

Labelled = tuple[str, str]
"""The class of an image, and its name."""


@dataclass(frozen=True)
class Split:
    """The ``classes`` in the order of their labels; of either part class and name of each image; ``notes``, what a person should know of
    how they were found; and ``unread``, what is among them of kinds that are not read."""

    classes: list[str]
    train: list[Labelled]
    test: list[Labelled]
    notes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def part_of(name: str) -> str | None:
    """train, test or val, if a folder or a column says one of these: ``Train``, ``testing``, ``validation_set``."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    for word, part in PARTS.items():
        if re.fullmatch(f"{AROUND}{word}{AROUND}", letters):
            return part
    return None


def in_order(names: Iterable[str]) -> list[str]:
    """Names of classes in their order: as numbers if all are, else as text."""
    names = list(names)
    if all(re.fullmatch(r"[0-9]{1,18}", name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def order_note(classes: Sequence[str]) -> str:
    """What a person should know of the order, where text and numbers would be ordered otherwise; or nothing."""
    as_text, as_numbers = sorted(classes), sorted(classes, key=_by_numbers)
    if as_text == as_numbers:
        return ""
    kind, other = ("numbers", as_text) if list(classes) == as_numbers else ("text", as_numbers)
    return f"classes are in the order of {kind}: {some_of(classes)}, and not {some_of(other)}; data.classes=[…] says otherwise"


def _by_numbers(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"([0-9]+)", name)]


def some_of(names: Sequence[str], most: int = 4) -> str:
    """The first names of classes, for a message."""
    shown = ", ".join(brief(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, …"


def require_known(wanted: Sequence[str], known: Sequence[str], place: str) -> None:
    """Raise DfkdError for a class of data.classes that is not among the ``known`` ones of ``place``."""
    for name in wanted:
        if name not in known:
            close = did_you_mean(name, known)
            raise DfkdError(f"data.classes: {place} has no class {brief(name)!r}, only {some_of(known, 20)}{close}")


def split_rows(
    classes: list[str], rows: Sequence[tuple[str | None, str, str]], test_fraction: float, place: str
) -> Split:
    """The split of images of which part, class and name are said: of no part ``test_fraction`` is held out."""
    found: dict[str | None, list[Labelled]] = defaultdict(list)
    number = {name: index for index, name in enumerate(classes)}
    for part, name, image in sorted(rows, key=lambda row: (number[row[1]], row[2])):
        found[part].append((name, image))
    train, test = found["train"] or found[None], found["test"] or found["val"]
    notes = []
    if found["test"] and found["val"]:
        notes.append(f"{len(found['val']):,} images for validation are left out: figures are of the test images")
    if test and train:
        return Split(classes, train, test, notes)
    return held_out(classes, train, test_fraction, place, notes)


def held_out(
    classes: list[str], labelled: Sequence[Labelled], test_fraction: float, place: str, notes: list[str]
) -> Split:
    """A share of each class held out, the images whose names have the smallest hashes: in whatever order they are listed. Where others are
    added, most images stay on their side."""
    by_class: dict[str, list[str]] = {name: [] for name in classes}
    for name, image in labelled:
        by_class[name].append(image)
    train, test = [], []
    for name, images in by_class.items():
        ranked = sorted(images, key=lambda image: hashlib.sha256(PurePosixPath(image).name.encode()).hexdigest())
        count = max(1, round(len(images) * test_fraction))
        if count >= len(images):
            raise DfkdError(
                f"{place}: {brief(name)} holds {len(images)} image{'s' * (len(images) > 1)}, of which {count} would be tested on; "
                "a class needs one more, to train on"
            )
        test += [(name, image) for image in sorted(ranked[:count])]
        train += [(name, image) for image in sorted(ranked[count:])]
    said = f"{test_fraction:.0%} of each class is held out for testing (data.test_fraction)"
    return Split(classes, train, test, [*notes, said])
