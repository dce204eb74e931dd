"""Any image-classification data set of the Hugging Face Hub, or in that library's formats on disk (extra: ``hub``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dfkd_exp.data.decoded import DecodedData, Part
from dfkd_exp.data.files import MODES, readable, to_tensor
from dfkd_exp.errors import DfkdError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Hub(DecodedData):
    """``data=hub data.name=ylecun/mnist``; a local folder of parquet or image files works as a name too."""

    name: str = ""
    """Name on the Hub, or a local folder."""
    revision: str | None = None
    """Commit or tag; name one for results that others can repeat."""
    train_split: str = "train"
    """Split to train on."""
    test_split: str = "test"
    """Split to test on."""
    image_column: str = "image"
    """Column with the images."""
    label_column: str = "label"
    """Column with the labels."""
    size: int | None = None
    """Resize to size x size pixels; empty: all images must already have one size."""
    channels: int = 3
    """1 (grey) or 3 (colour); images are converted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("name", bool(self.name), "a data set of the Hub or a local folder (data.name=…)")
        self.require("channels", self.channels in MODES, "1 or 3")
        self.require_size()

    def find(self) -> tuple[list[str], dict[str, Part]]:
        whole = self._dataset()
        parts = {"train": self._part(whole, self.train_split), "test": self._part(whole, self.test_split)}
        label_type = whole[self.train_split].features[self.label_column]
        names = getattr(label_type, "names", None) or [str(i) for i in range(max(parts["train"].labels) + 1)]
        return list(names), parts

    def _dataset(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise DfkdError("data=hub needs the Hugging Face library: pip install 'dfkd_exp[hub]'") from error
        try:
            return datasets.load_dataset(self.name, revision=self.revision)
        except Exception as error:  # the library raises many kinds, from many layers
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DfkdError(
                f"data.name={self.name} could not be loaded ({reason}); "
                "check the name and the network, or give a local folder"
            ) from error

    def _part(self, whole: Any, split: str) -> Part:
        if split not in whole:
            raise DfkdError(
                f"{self.name} has no split {split!r}, only {', '.join(whole)}; set data.train_split, data.test_split"
            )
        table = whole[split]
        for column in (self.image_column, self.label_column):
            if column not in table.column_names:
                raise DfkdError(
                    f"{self.name} has no column {column!r}, only {', '.join(table.column_names)}; "
                    "set data.image_column, data.label_column"
                )
        labels = list(table[self.label_column])
        if min(labels, default=0) < 0:
            raise DfkdError(
                f"{self.name}: split {split!r} has images without a label (-1); choose another split with labels"
            )

        def name(index: int) -> str:
            return f"image {index} of {self.name}, split {split!r},"

        def read(index: int) -> Tensor:
            return readable(name(index), lambda: to_tensor(table[index][self.image_column], self.channels, self.size))

        return Part(labels, read, name)
