"""How a network is trained: for how long, in which batches, by which optimiser, schedule and augmentation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from dfkd_exp.errors import ConfigError
from dfkd_exp.inputs import InputSpec, Shape
from dfkd_exp.settings import UNSET, Settings, under_flag
from dfkd_exp.training.augmentation import Augmentation, NoAugmentation
from dfkd_exp.training.optimizers import Adam, Optimizer
from dfkd_exp.training.schedules import Constant, Schedule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Training(Settings):
    """A fixed number of epochs; the network after the last one is the result."""

    flag: ClassVar[str] = "training"

    epochs: int = 10
    """Passes over the training images."""
    batch_size: int = 64
    """Images per step."""
    label_smoothing: float = 0.0
    """Share of a label's probability that is spread over all classes."""
    clip: float | None = None
    """Largest norm of a step's gradient (ZSKT's student 5); empty: any."""
    optimizer: Optimizer = UNSET
    """How weights follow from gradients."""
    schedule: Schedule = UNSET
    """How the learning rate changes over the steps."""
    augmentation: Augmentation = UNSET
    """How an image is changed each time it is shown."""

    def __post_init__(self) -> None:
        self.choose(optimizer=Adam, schedule=Constant, augmentation=NoAugmentation)
        for name in ("epochs", "batch_size"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        self.require("clip", self.clip is None or self.clip > 0, "positive, or empty")
        self.require("label_smoothing", 0 <= self.label_smoothing < 1, "at least 0 and below 1")

    @property
    def by_labels(self) -> bool:
        """Whether the network learns the images' labels, and not what a teacher says."""
        return True

    def suited_to(self, shape: Shape) -> Self:
        """The same for inputs of ``shape``, for which an augmentation may do something else. Raises ConfigError if it can do nothing, or
        leaves no label right where labels are learnt."""
        if self.augmentation.mixes and self.by_labels:
            raise ConfigError(
                f"{self.augmentation.flag}: mixed images have no labels of their own to be learnt; choose another"
            )
        with under_flag(self.flag):
            return replace(self, augmentation=self.augmentation.suited_to(shape, answered=not self.by_labels))

    def shown(self, pixels: Tensor, inputs: InputSpec, uniform: Tensor, rows: Tensor | None = None) -> Tensor:
        """What a network in training is shown of images ``pixels[N, *shape]``, as it takes them, as ``uniform[N, num_random]`` says: in
        all ``rows`` of them, or in some."""
        if rows is not None and not self.augmentation.mixes:  # where it does, other rows are seen in those
            pixels, uniform, rows = pixels[rows], uniform[rows], None
        shown = inputs.from_pixels(pixels)
        outside, _ = inputs.bounds(shown)
        shown = self.augmentation(shown, uniform.to(shown.device), outside)
        return shown if rows is None else shown[rows]

    def num_steps(self, num_images: int) -> int:
        """Of the whole training; an epoch's last batch may be smaller than the others, or larger by one (`batches`)."""
        full, left = divmod(num_images, self.batch_size)
        joined = left == 1 and full > 0
        return self.epochs * (full + (left > 0 and not joined))
