"""Which arrays are inputs and which labels, of which part of a data set: by the names that people give them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from dfkd_exp.data.array_files import SAVE, ByName
from dfkd_exp.data.splits import PARTS
from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief

ROLES = {
    "inputs": "x images image imgs img data inputs input features feature signals signal series samples sample values table volumes",
    "labels": "y labels label targets target classes class t lbl",
    "class_names": "classnames labelnames targetnames classlabels",
    "feature_names": "featurenames columns columnnames featurenamesx names",
}
"""What each is called, in small letters and without what parts words."""
KNOWN = {word: role for role, words in ROLES.items() for word in words.split()}
SPLIT = {**PARTS, "tr": "train", "te": "test"}
"""Parts by the words for them, those of folders and two that only arrays have."""


@dataclass
class Given:
    """Arrays by part (``train``, ``test``, ``val``, or empty for the whole) and role, and the names of those that are neither."""

    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    feature_names: list[str] = field(default_factory=list)
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    """What an array of a role and part is called, for messages."""
    left_out: list[str] = field(default_factory=list)

    def add(self, role: str, part: str, name: str, array: np.ndarray) -> None:
        """Raises DfkdError if there is such an array already."""
        if role in ("class_names", "feature_names"):
            setattr(self, role, [str(value) for value in array.reshape(-1)[:100_000]])
            return
        if (other := self.names.get((role, part))) is not None:
            what = f"the {role} of {part}" if part else f"the {role}"
            raise DfkdError(f"{brief(name)} and {brief(other)} could both be {what}; leave one of them out")
        self.names[role, part] = name
        getattr(self, role)[part] = array


def assigned(arrays: ByName, source: str) -> Given:
    """What the names say. Raises DfkdError, which lists them, if no inputs or no labels are among them."""
    given = Given()
    for name, array in arrays.items():
        role, part = role_of(name)
        if role:
            given.add(role, part, name, array)
        else:
            given.left_out.append(name)
    for role in ("inputs", "labels"):
        if not getattr(given, role):
            raise DfkdError(
                f"{source} has no array that is called as {role} are; it holds {listed(arrays)}: write {SAVE}"
            )
    return given


def role_of(name: str) -> tuple[str, str]:
    """The role and the part of an array called ``name``, such as train_images, X_test, yTrain or val/labels; empty texts if unknown."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    part = ""
    for word in words:
        if word in SPLIT and not part:
            part = SPLIT[word]
            words.remove(word)
            break
    rest = "".join(words)
    for start, found in SPLIT.items():  # xtrain, trainx
        if (
            rest not in KNOWN
            and not part
            and len(start) > 2
            and rest != start
            and (rest.startswith(start) or rest.endswith(start))
        ):
            part, rest = found, rest.removeprefix(start).removesuffix(start)
    role = KNOWN.get(rest, "")
    return (role, part) if role else ("", "")


def listed(arrays: ByName) -> str:
    """The arrays with their shapes, for a message."""
    return brief(", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())) or "nothing"
