"""A kind of metadata as settings: what is recorded of a teacher, and what accumulates for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.metadata.choices import SIGNALS, STORAGES
from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.collection import Collector
    from dfkd_exp.metadata.metadata import Metadata
    from dfkd_exp.metadata.statistic import Accumulator
    from dfkd_exp.models.layers import Layer


@dataclass
class MetadataKind(Settings):
    """A kind of metadata: what a teacher leaves behind."""

    flag: ClassVar[str] = "metadata"
    needs_images: ClassVar[bool] = True
    """Whether it is collected from the training images, and not read off the teacher."""
    publishes: ClassVar[bool] = True
    """Whether anything is matched."""

    layers: Any = "all"
    """The recorded layers: all, dense (those that put out a vector), top, or a list of module paths such as [features.0,classifier.1]; the
    logits always belong to them."""
    temperature: float = 8.0
    """The logits are divided by this before they are summarised, as the paper does."""
    signal: str = "before_relu"
    """What is summarised of a hidden layer: its output before_relu, or after_relu."""
    storage: str = "fp32"
    """Type of the published numbers: fp32, fp16, bf16, or int8 with an exponent for each row and column."""

    def __post_init__(self) -> None:
        self.require("temperature", 1e-6 <= self.temperature <= 1e6, "from 1e-6 to 1e6")
        self.require_choice("signal", SIGNALS)
        self.require_choice("storage", STORAGES)
        if isinstance(
            self.layers, list | tuple
        ):  # in an nn.Sequential names are whole numbers; 1.10 would be read as 1.1
            self.layers = [str(name) if type(name) is int else name for name in self.layers]
        named = isinstance(self.layers, list) and all(isinstance(name, str) for name in self.layers)
        self.require(
            "layers",
            self.layers in ("all", "dense", "top") or named,
            "all, dense, top or a list of module paths, with quotes where a path looks like a decimal number",
        )

    def suited_to(self, teacher: nn.Module, inputs: InputSpec) -> MetadataKind:
        """The kind that is collected of such a teacher, trained or not, and such images."""
        return self

    @property
    def sized_beforehand(self) -> bool:
        """Whether its bytes follow from the layers and the number of classes, and not from the images; and whether two images of each class
        are summarised in seconds."""
        return False

    def basis_sizes(self, layers: Sequence[Layer]) -> list[list[int]]:
        """Units of the layers of each graph whose whole basis is computed."""
        return []

    @property
    def records_pairs(self) -> bool:
        """Whether images are recorded once for each pair of layers."""
        return False

    @property
    def drawable(self) -> bool:
        """Whether values of the layers can be drawn from all of it."""
        return True

    @property
    def dropout_masks(self) -> bool:
        """Whether images are to be made through a teacher that is masked by its own dropout."""
        return False

    def described(self) -> dict[str, Any]:
        """The settings as plain values, for the file."""
        return asdict(self)

    def claims(self, layers: Sequence[Layer]) -> dict[str, Any]:
        """What is claimed of metadata of ``layers`` beside its settings, for the file; JSON-able."""
        return {}

    def check_images(self, num_images: int) -> None:
        """Raise ConfigError if what is claimed cannot be of so many images."""

    def check_observed_inputs(self) -> None:
        """Raise ConfigError if the range of the images must not be looked up in them."""

    def recorded(self, teacher: nn.Module, example: Tensor) -> list[Layer]:
        """The layers that are recorded, in the order of the forward pass; ``example``: inputs ``[N, *shape]``."""
        from dfkd_exp.models.recording import find_layers

        return find_layers(teacher, example, self.layers)

    def check_layers(self, teacher: nn.Module, layers: Sequence[Layer], inputs: InputSpec) -> None:
        """Raise DfkdError if these ``layers`` of a teacher, trained or not, cannot be summarised; quickly, and with little memory."""

    def check_memory(self, layers: Sequence[Layer], num_classes: int) -> None:
        """Say how much memory the statistics will take while they are collected, if that is much; DfkdError if it is more than there is."""

    def accumulators(
        self, teacher: nn.Module, layers: Sequence[Layer], inputs: InputSpec, num_classes: int
    ) -> list[Accumulator]:
        """What sees the signals of the recorded ``layers`` and ends in the statistics that are kept."""
        raise NotImplementedError

    def collector(self, teacher: nn.Module, inputs: InputSpec) -> Collector:
        """An object with ``update(images, labels)``, ``merge(other)`` and ``finish()``: one streaming, mergeable pass."""
        from dfkd_exp.metadata.collection import Collector

        return Collector(self, teacher, inputs)

    def num_bytes(self, teacher: nn.Module, inputs: InputSpec, num_classes: int) -> int:
        """Bytes of the metadata that would be collected of any images, if it is `sized_beforehand`."""
        import torch

        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(num_classes).repeat(2).split(inputs.images_at_once)
        batches = (
            (inputs.from_pixels(torch.rand(len(some), *inputs.shape, generator=generator)), some) for some in labels
        )
        return self.collect(teacher, batches, inputs).num_bytes

    def collect(
        self, teacher: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], inputs: InputSpec | None = None
    ) -> Metadata:
        """The metadata of a teacher over ``(images[N, *shape], labels[N])`` batches, in one pass.

        Labels may be whole numbers of any type, ``[N]`` or ``[N, 1]``, or one-hot; a batch also a dict, with keys like ``pixel_values`` and
        ``labels``. The teacher may return a tuple or dict with its logits, probabilities, or one logit of two classes.
        ``inputs``: shape and range of the images; left out, the shape of the first batch and the range of them all
        (the batches are then kept to be read twice, so leave it out only for small sets).
        """
        from dfkd_exp.data.labelled import images_and_labels, num_classes_seen
        from dfkd_exp.metadata.collection import observed_inputs
        from dfkd_exp.models.plain import as_classifier

        pairs: Iterable[tuple[Tensor, Tensor]] = map(images_and_labels, batches)
        seen = None
        if inputs is None:
            self.check_observed_inputs()
            pairs = list(pairs)
            inputs = observed_inputs(pairs)
            seen = num_classes_seen([labels for _, labels in pairs])
        with as_classifier(teacher, inputs.example(), at_least=seen) as teacher:
            collector = self.collector(teacher, inputs)
            for images, labels in pairs if self.needs_images else ():
                collector.update(images, labels)
            return collector.finish()
