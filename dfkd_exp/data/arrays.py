"""Somebody's own arrays: images, tables, series or volumes in files of numpy or safetensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.data.array_data import ArrayData, Arrays
from dfkd_exp.data.array_layouts import LAYOUTS
from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief

if TYPE_CHECKING:
    import numpy as np

    from dfkd_exp.data.array_roles import Given

FILES = {
    ("inputs", ""): "path",
    ("labels", ""): "labels",
    ("inputs", "test"): "test_path",
    ("labels", "test"): "test_labels",
}
"""Which flag names the file of which array."""


@dataclass
class OwnArrays(ArrayData):
    """``data.path=FILE.npz``, with arrays that are called as people call them (train_images, x_train, X and y, …), a folder of such .npy
    files, or ``data.path=x.npy data.labels=y.npy``. Nothing is unpickled."""

    ephemeral: ClassVar[tuple[str, ...]] = ("path", "labels", "test_path", "test_labels")

    path: str = ""
    """File of arrays (npz, safetensors), folder of .npy files, or the .npy file of the inputs."""
    labels: str | None = None
    """File of the labels, where data.path holds the inputs alone."""
    test_path: str | None = None
    """File of the test inputs, where data.path holds the others alone."""
    test_labels: str | None = None
    """File of the test labels."""
    test_fraction: float = 0.2
    """Share of each class held out for testing, at random, where there are no test arrays."""
    layout: str | None = None
    """Axes of one example: F (features), L, CL, LC (series), HW, CHW, HWC (images), DHW, CDHW, DHWC (volumes); empty: guessed, and said."""
    classes: list[str] = field(default_factory=list)
    """Names of the classes, in the order of the labels; of labels that are words, these in the order of the classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("path", bool(self.path), "a file or folder of arrays (data.path=…)")
        self.require("test_fraction", 0 < self.test_fraction < 1, "between 0 and 1")
        if self.layout is not None:
            self.require_choice("layout", LAYOUTS)
        self.require("classes", len(set(self.classes)) == len(self.classes), "names of which no two are alike")

    def fingerprint(self) -> dict[str, Any]:
        from dfkd_exp.data.array_files import digests

        sums = {name: digests(Path(path), self.named(name)) for name in self.ephemeral if (path := getattr(self, name))}
        return {**self.identity(), "sha256": sums}

    def find(self) -> Arrays:
        from dfkd_exp.data.array_labels import classes_of, plain_labels
        from dfkd_exp.data.array_layouts import channels_first, in_words
        from dfkd_exp.data.array_values import require_numbers

        given = self._given()
        train, test, said = self._parts(given)
        labels = {part: plain_labels(given.labels[part], given.names["labels", part]) for part in {train, test}}
        for part in labels:
            self._check_lengths(given, part, labels[part])
        classes, of_classes = classes_of(labels[train], given.names["labels", train], self.classes, given.class_names)
        numbers = {part: classes.number(labels[part], given.names["labels", part]) for part in labels}
        layout = self._layout(given.inputs[train], given.names["inputs", train])
        for part in labels:
            require_numbers(given.inputs[part], given.names["inputs", part], given.feature_names)
        arrays = {part: channels_first(given.inputs[part], layout) for part in labels}
        if arrays[train].shape[1:] != arrays[test].shape[1:]:
            both = [
                f"{given.names['inputs', part]} of shape {list(given.inputs[part].shape[1:])}" for part in (train, test)
            ]
            raise DfkdError(f"examples of {' and '.join(map(brief, both))} differ; give both one shape")
        said = [in_words(layout, arrays[train].shape[1:]), *said, *filter(None, [of_classes])]
        if given.left_out:
            said.append(f"left out: {brief(', '.join(given.left_out))}")
        features = given.feature_names if layout == "F" and len(given.feature_names) == arrays[train].shape[1] else []
        if train == test:
            return self._held_out(arrays[train], numbers[train], classes.names, features, said)
        return Arrays(
            {"train": arrays[train], "test": arrays[test]}, {"train": numbers[train], "test": numbers[test]}, classes.names, features, said
        )  # fmt: skip

    def _given(self) -> Given:
        """Everything that the flags name."""
        from dfkd_exp.data.array_files import read_arrays
        from dfkd_exp.data.array_roles import Given, assigned, listed

        def sole(flag: str) -> np.ndarray:
            path = str(getattr(self, flag))
            arrays = read_arrays(Path(path), self.named(flag))
            if len(arrays) != 1:
                raise DfkdError(
                    f"{self.named(flag)}={path} must hold one array, and holds {listed(arrays)}; name a .npy file"
                )
            return next(iter(arrays.values()))

        if self.labels is None and self.test_path is None and self.test_labels is None:
            arrays = read_arrays(Path(self.path), "data.path")
            if len(arrays) == 1:
                raise DfkdError(
                    f"data.path={self.path} holds one array, {listed(arrays)}; name the labels too: data.labels=FILE.npy"
                )
            return assigned(arrays, f"data.path={self.path}")
        given = Given()
        for (role, part), flag in FILES.items():
            if getattr(self, flag) is not None:
                given.add(role, part, self.named(flag), sole(flag))
        return given

    def _parts(self, given: Given) -> tuple[str, str, list[str]]:
        """The parts to train and to test on, the same one twice if a share of it is to be held out, and what there is to say of that."""
        for role, other in (("inputs", "labels"), ("labels", "inputs")):
            if lonely := sorted(set(getattr(given, role)) - set(getattr(given, other))):
                name = given.names[role, lonely[0]]
                raise DfkdError(
                    f"{brief(name)} has no {other} beside it; add them, under a name such as {other}_{lonely[0] or 'train'}"
                )
        there = set(given.inputs)
        if "" in there and "train" in there:
            raise DfkdError(
                f"{given.names['inputs', '']} and {given.names['inputs', 'train']} could both be to train on; leave one out"
            )
        train = next((part for part in ("train", "") if part in there), None)
        if train is None:
            raise DfkdError(f"data.path={self.path} has nothing to train on, only {', '.join(sorted(there))}")
        if "test" in there:
            return train, "test", [f"{given.names['inputs', 'val']} is not used"] if "val" in there else []
        if "val" in there:
            return train, "val", [f"{given.names['inputs', 'val']} is what is tested on, for want of a test part"]
        return train, train, [f"{self.test_fraction:.0%} of each class is held out for testing (data.test_fraction)"]

    def _check_lengths(self, given: Given, part: str, labels: np.ndarray) -> None:
        inputs, name = given.inputs[part], given.names["inputs", part]
        if inputs.ndim < 2 or not inputs.size:
            raise DfkdError(
                f"{brief(name)} is of shape {list(inputs.shape)}; inputs are [N, features] or have more axes, and N above 0"
            )
        if len(inputs) != len(labels):
            raise DfkdError(
                f"{brief(name)} has {len(inputs):,} examples, and {brief(given.names['labels', part])} {len(labels):,}; give each a label"
            )

    def _layout(self, array: np.ndarray, name: str) -> str:
        from dfkd_exp.data.array_layouts import guessed_layout

        shape = array.shape[1:]
        layout = self.layout or guessed_layout(shape, array.dtype == "uint8")
        if layout is None:
            raise DfkdError(
                f"which of the axes of {brief(name)} {list(array.shape)} are channels is not clear; set data.layout, such as CHW"
            )
        if len(layout) != len(shape):
            raise DfkdError(
                f"data.layout={layout} has {len(layout)} axes, and an example of {brief(name)} is of shape {list(shape)}"
            )
        return layout

    def _held_out(
        self, array: np.ndarray, labels: np.ndarray, classes: list[str], features: list[str], said: list[str]
    ) -> Arrays:
        """A share of each class, drawn with a seed of its own, so that it is the same in every run."""
        import numpy as np

        from dfkd_exp.data.array_values import Chosen

        drawn, test = np.random.default_rng(0), np.zeros(len(labels), bool)
        for label, name in enumerate(classes):
            own = drawn.permutation(np.flatnonzero(labels == label))
            held = max(1, round(len(own) * self.test_fraction))
            if held >= len(own):
                raise DfkdError(
                    f"class {brief(name)} has {len(own)} example; at least two are needed, to train and to test"
                )
            test[own[:held]] = True
        return Arrays(
            {"train": Chosen(array, np.flatnonzero(~test)), "test": Chosen(array, np.flatnonzero(test))},
            {"train": labels[~test], "test": labels[test]}, classes, features, said,
        )  # fmt: skip
