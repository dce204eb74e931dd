"""Labels in the forms that people keep them, as classes counted from 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief

MOST_NAMED = 8


@dataclass(frozen=True)
class Classes:
    """The values that labels have, in the order of the classes, and what people call these."""

    values: np.ndarray
    names: list[str]

    def number(self, labels: np.ndarray, name: str) -> np.ndarray:
        """``labels[N]`` as classes from 0, int64. Raises DfkdError for one that is not among the values."""
        order = np.argsort(self.values, kind="stable")
        place = np.searchsorted(self.values, labels, sorter=order).clip(0, len(order) - 1)
        found = order[place]
        if len(wrong := np.flatnonzero(self.values[found] != labels)):
            raise DfkdError(
                f"{name}[{wrong[0]}] is {brief(str(labels[wrong[0]]))}, a class without training examples; there are "
                f"{_some(self.values)}: add examples to train on, or leave these out"
            )
        return found.astype(np.int64)


def plain_labels(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels ``[N]``, whole numbers or words, of ``[N]``, ``[N, 1]`` or one-hot ``[N, K]``, whole or floating numbers, words or bytes.

    Raises DfkdError, which calls them ``name``, where they say several classes of an example, none, or a number to be predicted.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biufUS":
        raise DfkdError(f"{name} are of type {labels.dtype}; give whole numbers or words")
    if labels.ndim > 1 and labels.size == len(labels):
        labels = labels.reshape(-1)
    if labels.dtype.kind == "f" and len(missing := np.argwhere(~np.isfinite(labels))):
        raise DfkdError(
            f"{name}{missing[0].tolist()} is {labels[tuple(missing[0])]}: a label is missing; leave these examples out"
        )
    if labels.ndim == 2 and labels.dtype.kind in "biuf":
        if not ((labels == 0) | (labels == 1)).all():
            raise DfkdError(
                f"{name} of shape {list(labels.shape)} are no classes; give one whole number or word for each example"
            )
        if len(wrong := np.flatnonzero(labels.sum(1) != 1)):
            count = int(labels[wrong[0]].sum())
            raise DfkdError(
                f"{name}[{wrong[0]}] has {count} classes (multi-label); a network with one class for each example is needed"
            )
        labels = labels.argmax(1)
    if labels.ndim != 1:
        raise DfkdError(
            f"{name} are of shape {list(labels.shape)}; give one label for each example, [N], [N, 1] or one-hot [N, K]"
        )
    if labels.dtype.kind == "f":
        if len(wrong := np.flatnonzero(labels != np.round(labels))):
            raise DfkdError(
                f"{name}[{wrong[0]}] is {labels[wrong[0]]}: numbers to be predicted (regression) are no classes; give classes"
            )
        labels = labels.astype(np.int64)
    if labels.dtype.kind in "SU":
        return np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
    return labels.astype(np.int64)


def classes_of(labels: np.ndarray, name: str, wanted: list[str], known: list[str]) -> tuple[Classes, str]:
    """The classes of training ``labels[N]``, and what there is to say of them, if anything.

    ``wanted``: names in the order of the classes (``data.classes``); ``known``: names that stand beside the labels. Raises DfkdError if
    they do not fit, there is one class alone, or nearly as many as examples.
    """
    values = np.unique(labels)
    if len(values) < 2:
        raise DfkdError(f"{name} are all {_some(values)}; at least two classes are needed")
    if 2 * len(values) > len(labels):
        raise DfkdError(
            f"{name} are {len(values):,} different ones for {len(labels):,} examples: give classes, no numbers to be predicted"
        )
    if wanted and len(wanted) != len(values):
        raise DfkdError(f"data.classes has {len(wanted)} names, and {name} are {_some(values)}: name each class")
    if values.dtype.kind == "U":
        if wanted and sorted(wanted) != sorted(values.tolist()):
            raise DfkdError(f"data.classes must be the words of {name} in the order of the classes: {_some(values)}")
        values = np.array(wanted, values.dtype) if wanted else values
        return Classes(values, values.tolist()), f"classes {_some(values)}" + (
            "" if wanted else ", in the order of the alphabet"
        )
    count, plain = len(values), values.tolist() == list(range(len(values)))
    names = wanted or (known if len(known) == count else [str(value) for value in values.tolist()])
    if not wanted and known and not plain and values[0] >= 0 and values[-1] < len(known):
        names = [known[value] for value in values.tolist()]
    said = "" if plain else f"labels {_some(values)} are taken for the classes 0 to {count - 1}, in this order"
    return Classes(values, names), said


def _some(values: np.ndarray) -> str:
    shown = [brief(str(value)) for value in values[:MOST_NAMED].tolist()]
    return ", ".join(shown) + (f", … ({len(values):,} of them)" if len(values) > MOST_NAMED else "")
