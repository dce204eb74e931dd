"""Any image-classification data set of the Hugging Face Hub, or in that library's formats on disk (extra: ``hub``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.data.base import Data
from dfkd_exp.data.image_folder import MODES, to_tensor
from dfkd_exp.errors import DfkdError

if TYPE_CHECKING:
    from dfkd_exp.data.images import ImageData


@dataclass
class Hub(Data):
    """``data=hub data.name=ylecun/mnist``; a local folder of parquet or image files works as a name too."""

    decode_once: ClassVar[bool] = True

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
        self.require("size", self.size is None or self.size > 0, "positive")

    def load(self) -> ImageData:
        import torch

        from dfkd_exp.console import Progress
        from dfkd_exp.data.images import ImageData, LabelledImages

        try:
            import datasets
        except ImportError as error:
            raise DfkdError("data=hub needs the Hugging Face library: pip install 'dfkd_exp[hub]'") from error
        try:
            whole: Any = datasets.load_dataset(self.name, revision=self.revision)
        except Exception as error:  # the library raises many kinds, from many layers
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DfkdError(
                f"data.name={self.name} could not be loaded ({reason}); "
                "check the name and the network, or give a local folder"
            ) from error
        parts = {}
        for split in (self.train_split, self.test_split):
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
            images = []
            with Progress(f"decoding {split} images", len(table)) as progress:
                for image in table[self.image_column]:
                    images.append(to_tensor(image, self.channels, self.size))
                    progress.advance()
            if len({image.shape for image in images}) > 1:
                raise DfkdError(f"the images of {self.name} differ in size; set data.size=N to resize all to NxN")
            labels = torch.tensor(list(table[self.label_column])).long()
            if (labels < 0).any():
                raise DfkdError(
                    f"{self.name}: split {split!r} has images without a label (-1); choose another split with labels"
                )
            parts[split] = LabelledImages(torch.stack(images), labels)
        train, test = parts[self.train_split], parts[self.test_split]
        label_type = whole[self.train_split].features[self.label_column]
        names = getattr(label_type, "names", None) or [str(i) for i in range(int(train.labels.max()) + 1)]
        return ImageData(train.padded(self.pad), test.padded(self.pad), list(names), train.images[0].numel())
