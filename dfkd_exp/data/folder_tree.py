"""Which folders of a tree are parts to train and to test on, and which are classes: what folders are called, as people call them.

Pure functions: nothing is opened.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from dfkd_exp.data.listing import CONVERT, IMAGES, counted, ending
from dfkd_exp.data.splits import Labelled, Split, held_out, in_order, part_of, require_known, some_of
from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, printable

MOST_NESTED = 3
"""Classes of which it is told what folders are in them."""


class Tree:
    """Folders and images by name: what lies in a folder and what anywhere below it; "" is the outermost. What folders are is told by all
    of their images, of kinds that are read and of others."""

    def __init__(self, images: Iterable[str], folders: Iterable[str]):
        self.folders: dict[str, list[str]] = defaultdict(list)
        """The folders in a folder, by their own names."""
        self.read: dict[str, list[str]] = defaultdict(list)
        """The images anywhere below a folder, by their whole names, that are of a kind that is read."""
        self.unread: dict[str, list[str]] = defaultdict(list)
        """And the others."""
        self.loose: dict[str, int] = defaultdict(int)
        """How many images lie in a folder itself."""
        for folder in sorted(folders):
            above, _, name = folder.rpartition("/")
            self.folders[above].append(name)
        for image in sorted(images):
            parents = [str(parent) for parent in PurePosixPath(image).parents]
            self.loose[parents[0].removeprefix(".")] += 1
            of_kind = self.read if ending(image) in IMAGES else self.unread
            for parent in parents:
                of_kind["" if parent == "." else parent].append(image)

    def with_images(self, folder: str) -> list[str]:
        """The folders in a folder that hold images."""
        inner = {name: _join(folder, name) for name in self.folders[folder]}
        return [name for name, whole in inner.items() if self.read[whole] or self.unread[whole]]

    def innermost(self, folder: str) -> str:
        """``folder``, or the only one in it, as long as that holds others and not images: archives often have one too many."""
        while len(inner := self.with_images(folder)) == 1 and self.with_images(_join(folder, inner[0])):
            folder = _join(folder, inner[0])
        return folder


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def split_folders(
    tree: Tree, place: str, test_fraction: float, wanted: Sequence[str] = (), tables: Sequence[str] = ()
) -> Split:
    """The split of a tree of folders, in ``place``: parts by the usual names, each with a folder per class; or a folder per class, of which
    ``test_fraction`` is held out. ``wanted``: the classes, in their order, if they are said; ``tables``: files there that may say of
    images which class they are. Raises DfkdError, with what to do, for what may mean one thing or another."""
    root = tree.innermost("")
    parts, others = _parts(tree.folders[root], wanted)
    if two := next((names for names in parts.values() if len(names) > 1), None):
        raise DfkdError(
            f"data.path={place} holds {' and '.join(map(brief, two))}, and either could be the part that is meant; rename or move one away"
        )
    first = {part: tree.innermost(_join(root, names[0])) for part, names in parts.items() if names}
    shown = {part: brief(names[0]) for part, names in parts.items() if names}
    if first and not tree.with_images(first.get("train", "nothing")):
        why = "it holds no folders of classes" if "train" in first else "there is no train/ beside it"
        name = shown["train"] if "train" in first else next(iter(shown.values()))
        every = brief(",".join(sorted(tree.folders[root])))
        raise DfkdError(
            f"data.path={place}: {name}/ looks like a part of the data, but {why}; rename it, or if it is a class say so: "
            f"data.classes=[{every}]{_table_hint(tables)}"
        )
    folder = first.get("train", root)
    known = _classes(tree, folder, place, wanted, tables)
    classes = list(wanted) or in_order(known)
    notes = [f"{loose:,} images beside the folders of classes are left out"] if (loose := tree.loose[folder]) else []
    if left := [brief(name) for name in tree.with_images(root) if first and name in others]:
        notes.append(f"left out, for what it is called is no part: {some_of(left)}")

    if not wanted:
        notes += _nested(tree, folder, classes)

    def labelled(folder: str) -> list[Labelled]:
        return [(name, image) for name in classes for image in tree.read[_join(folder, name)]]

    of_classes = [_join(part, name) for part in sorted({folder, *first.values()}) for name in classes]
    unread = [image for inner in of_classes for image in tree.unread[inner]]
    for part in ("test", "val"):
        held = tree.with_images(first[part]) if part in first else []
        if not set(held) & set(known):
            if part in first:
                notes.append(f"{shown[part]}/ is left out: its images are in no folder of a class")
            continue
        if unknown := sorted(set(held) - set(known)):
            raise DfkdError(
                f"{place}/{shown[part]} has classes that {shown['train']}/ has not: {some_of(unknown)}; add or remove them"
            )
        _require_images(tree, first[part], place)
        if part == "test" and "val" in first:
            notes.append(f"{shown['val']}/ is left out: figures are of {shown['test']}/")
        if part == "val":
            notes.append(f"figures are of {shown['val']}/")
        if missing := [name for name in classes if not tree.read[_join(first[part], name)]]:
            notes.append(f"{shown[part]}/ has no images of {some_of(missing)}: figures say nothing of them")
        return Split(classes, labelled(folder), labelled(first[part]), notes, unread)
    return replace(held_out(classes, labelled(folder), test_fraction, place, notes), unread=unread)


def _parts(names: Sequence[str], wanted: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The folders that are parts by their names, and the others. Words that all names share do not count: ``seg_train``, ``seg_test``."""
    words = {name: re.findall("[a-z]+", name.lower()) for name in names}
    common = set.intersection(*map(set, words.values())) if len(names) > 1 else set()
    found, others = defaultdict(list), []
    for name in names:
        part = part_of(name) or part_of("".join(word for word in words[name] if word not in common))
        if part and name not in wanted:
            found[part].append(name)
        else:
            others.append(name)
    return found, others


def _classes(tree: Tree, folder: str, place: str, wanted: Sequence[str], tables: Sequence[str]) -> list[str]:
    """The folders in a folder as classes, all of them. Raises DfkdError if they, or those that are wanted, cannot be."""
    names, shown = tree.folders[folder], str(PurePosixPath(place, folder))
    require_known(wanted, names, shown)
    for name in wanted or names if len(names) > 1 else ():
        _require_images(tree, _join(folder, name), place)
    if len(names) < 2:
        raise DfkdError(
            f"data.path={shown} must hold one folder per class, at least two; it has {len(names)}{_table_hint(tables)}"
        )
    inside = [{part_of(inner) for inner in tree.folders[_join(folder, name)]} for name in names]
    common = set.intersection(*(set(tree.with_images(_join(folder, name))) for name in names))
    if all(found and None not in found for found in inside):
        inner = tree.folders[_join(folder, names[0])][0]
        raise DfkdError(
            f"data.path={shown}: {names[0]}/{inner} looks like a part of the data within a class; move it to {inner}/{names[0]}, and the "
            "others likewise"
        )
    if len(common) > 1 and not wanted:
        raise DfkdError(
            f"data.path={shown}: are {some_of(names)} parts, and the folders in them, {some_of(sorted(common))}, the classes? Then call "
            f"them train and test; if they are the classes say so: data.classes=[{brief(','.join(names))}]"
        )
    return names


def _nested(tree: Tree, folder: str, classes: Sequence[str]) -> list[str]:
    """What a person should know of classes whose images all lie in several folders of other names than any class else has: these may be
    the classes that are meant."""
    inner = {name: tree.with_images(_join(folder, name)) for name in classes}
    times = Counter(each for names in inner.values() for each in names)
    said = []
    for name, names in inner.items():
        own = [each for each in names if times[each] == 1]
        if len(own) > 1 and not tree.loose[_join(folder, name)]:
            said.append(f"{brief(name)} has {some_of(own)}")
    if not said:
        return []
    shown = f"{'; '.join(said[:MOST_NESTED])}{'; …' * (len(said) > MOST_NESTED)}"
    return [
        f"{shown}: taken as one class{' each' * (len(said) > 1)}; if it is the inner folders that are classes, a table says so: "
        "data.labels=FILE.csv"
    ]


def _require_images(tree: Tree, folder: str, place: str) -> None:
    """Raise DfkdError unless a folder holds images of kinds that are read."""
    if not tree.read[folder]:
        others = counted(tree.unread[folder])
        way_out = f" of kinds that are read, only {others}: {CONVERT}" if others else "; add some or remove the class"
        raise DfkdError(f"{printable(str(PurePosixPath(place, folder)))} holds no images{way_out}")


def _table_hint(tables: Sequence[str]) -> str:
    return f"; if a table says of which class an image is: data.labels={brief(tables[0]) if tables else 'FILE.csv'}"
