"""What data sets of arrays have in common: how their values become pixels, whatever their shape and range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dfkd_exp import console
from dfkd_exp.data.base import Data, Outline
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec, Shape

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dfkd_exp.data.array_values import Range, Values
    from dfkd_exp.data.images import ImageData

LARGEST_BOUND = 1e6
"""Of what a release says that inputs are between."""
WIDE = 10.0
"""Values beyond it, as they are, are hard to learn from."""
LARGE_BYTES = 2**28
"""Of converted values; more are kept in files in the store and mapped."""


@dataclass(frozen=True)
class Arrays:
    """Examples ``[N, features]`` or ``[N, channels, *space]`` by part (``train``, ``test``), as they are kept, and their ``labels[N]``,
    which count classes from 0; ``said``: what there is to say of how they were understood."""

    inputs: Mapping[str, Values]
    labels: dict[str, np.ndarray]
    classes: list[str]
    features: list[str]
    said: list[str]


@dataclass
class ArrayData(Data):
    """A data set of arrays in memory or mapped: values that are no bytes are kept as floating numbers."""

    range: list[float] = field(default_factory=list)
    """Least and largest value; or a pair for each channel or feature, one after the other. Empty: bytes are 0 to 255, all else is measured
    on the training examples, per channel or feature."""
    standardise: bool = False
    """Subtract the mean of each channel or feature and divide by its deviation, as measured on the training examples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = list(zip(self.range[::2], self.range[1::2], strict=False))
        self.require(
            "range",
            len(self.range) % 2 == 0 and all(low < high for low, high in pairs),
            "pairs [LOW,HIGH], LOW below HIGH",
        )
        self.require(
            "standardise",
            not (self.standardise and (self.mean or self.std)),
            "false where data.mean or data.std are given",
        )

    def find(self) -> Arrays:
        """The arrays. Raises DfkdError, with the way out, if they cannot be had or not be understood."""
        raise NotImplementedError

    @cached_property
    def _found(self) -> Arrays:
        from dfkd_exp.data.array_units import other_units

        found = self.find()
        types = {part: str(values.dtype) for part, values in found.inputs.items()}
        if not self.range and (types["train"] == "uint8") != (types["test"] == "uint8"):
            raise DfkdError(
                f"data: training examples are {types['train']} and test examples {types['test']}, which are likely to be in different "
                "units; give both one type, or say data.range=[LOW,HIGH] of both"
            )
        if not self.range and (seen := other_units(found.inputs["train"], found.inputs["test"])):
            raise DfkdError(
                f"data: {seen}, which are likely to be different units; scale both alike, or if they are right say "
                "data.range=[LOW,HIGH] of both"
            )
        if self.limit is None:
            return found
        index = self.limited({part: own.tolist() for part, own in found.labels.items()}, len(found.classes))
        inputs = {part: values[index[part]] for part, values in found.inputs.items()}
        return replace(found, inputs=inputs, labels={part: own[index[part]] for part, own in found.labels.items()})

    @cached_property
    def _range(self) -> Range:
        from dfkd_exp.data.array_values import Range

        found = self._found
        given = Range.of(found.inputs["train"], self.range)
        wide = max(abs(given.low).max(), abs(given.high).max()) > WIDE
        if self.standardise:
            taken = "less their mean and divided by their deviation"
        elif given.scaled:
            taken = "as 0 to 1"
        else:
            taken = "as they are" + ("; data.standardise=true trains better on such" if wide and not self.std else "")
        for line in [*found.said, f"{given.said}, taken {taken}"]:
            console.note(f"data: {line}")
        return given

    @property
    def measured(self) -> bool:
        return self._range.measured or self.standardise

    @property
    def kept_in_store(self) -> bool:
        from dfkd_exp.data.array_values import Chosen

        train = self._found.inputs["train"]
        if self._as_bytes:  # a file's are mapped where it is, unless some of its rows alone are wanted
            return isinstance(train, Chosen) and train.size > LARGE_BYTES
        return 4 * train.size > LARGE_BYTES

    @property
    def _as_bytes(self) -> bool:
        return self._found.inputs["train"].dtype == "uint8" and not self.range

    def outline(self) -> Outline:
        found = self._found
        train = found.inputs["train"]
        return Outline(self._shape, found.classes, len(train), train[0].nbytes)

    @property
    def _shape(self) -> Shape:
        channels, *space = self._found.inputs["train"].shape[1:]
        self.require("pad", not self.pad or len(space) == 2, "0: it is for images")
        return channels, *(side + 2 * self.pad for side in space)

    def inputs(self, shape: Shape) -> InputSpec:
        self.require_possible(shape)
        given = self._range
        if given.scaled:
            base = InputSpec.normalised(shape, [], [])
        else:
            base = InputSpec(shape, tuple(given.low.tolist()), tuple(given.high.tolist()))
        spec = base.after(*self._mean_and_std) if self.standardise else base.after(self.mean, self.std)
        if max(map(abs, (*spec.low, *spec.high))) > LARGEST_BOUND:
            raise DfkdError(
                f"data: values beyond {LARGEST_BOUND:,.0f} are not taken; set data.standardise=true, or data.mean and data.std"
            )
        return spec

    @cached_property
    def _mean_and_std(self) -> tuple[list[float], list[float]]:
        from dfkd_exp.data.array_values import mean_and_std

        mean, std = mean_and_std(self._found.inputs["train"])
        if self._range.scaled:
            low, size = self._range.low, self._range.high - self._range.low
            mean, std = (mean - low) / size, std / size
        return mean.tolist(), std.tolist()

    def load(self, folder: Path | None = None) -> ImageData:
        """The values as pixels, in memory, or in files in ``folder`` that are mapped."""
        import torch

        from dfkd_exp.data.images import ImageData, LabelledImages
        from dfkd_exp.data.mapped import map_images, write_images

        found, parts = self._found, {}
        _ = self._range  # says how they were understood
        for name in ("train", "test"):
            labels = torch.from_numpy(found.labels[name].copy())
            if folder is None:
                parts[name] = LabelledImages(self._pixels(found.inputs[name]), labels).padded(self.pad)
            else:
                path = folder / f"{name}.safetensors"
                write_images(path, self._one_by_one(found.inputs[name]), labels)
                parts[name] = map_images(path)
        return ImageData(parts["train"], parts["test"], found.classes, found.inputs["train"][0].nbytes, found.features)

    def _pixels(self, array: Values) -> Tensor:
        import torch

        from dfkd_exp.data.array_values import as_tensor, in_parts

        if self._as_bytes:
            return as_tensor(array)
        pixels, done = torch.empty(array.shape), 0
        for part in in_parts(array):
            pixels[done : done + len(part)] = self._range.pixels(part)
            done += len(part)
        return pixels

    def _one_by_one(self, array: Values) -> Iterator[Tensor]:
        import torch.nn.functional as F

        from dfkd_exp.data.array_values import as_tensor, in_parts

        for part in in_parts(array):
            for pixels in as_tensor(part) if self._as_bytes else self._range.pixels(part):
                yield F.pad(pixels, [self.pad] * 4) if self.pad else pixels
