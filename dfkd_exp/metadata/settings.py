"""The kinds of metadata as settings: which layers, which basis, which summary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.collection import GaussianCollector
    from dfkd_exp.metadata.gaussian import GaussianMetadata

COVARIANCES = ("auto", "full", "low_rank", "diagonal", "top_only")


@dataclass
class MetadataKind(Settings):
    """A kind of metadata: what a teacher leaves behind."""

    flag: ClassVar[str] = "metadata"

    def collector(self, teacher: nn.Module, inputs: InputSpec) -> Any:
        """An object with ``update(images, labels)``, ``merge(other)`` and ``finish()``: one streaming, mergeable pass."""
        raise NotImplementedError


@dataclass
class Gaussian(MetadataKind):
    """A Gaussian per class and layer: its mean and a covariance. Logits are divided by the temperature first.

    Source: METHOD, "What the paper keeps". The paper always keeps full covariances.
    """

    layers: Any = "all"
    """all, top, or a list of module paths such as [features.0,classifier.1]; the logits always belong to it."""
    covariance: str = "auto"
    """full, low_rank (plus a diagonal), diagonal; auto: by the number of units of the layer; top_only: full for the logits
    and diagonal for all other layers, which is all that ``match: moments`` uses."""
    rank: int = 32
    """Rank of the low-rank covariances."""
    full_up_to: int = 2048
    """auto: layers of at most so many units keep a full covariance,"""
    low_rank_up_to: int = 16384
    """auto: larger ones of at most so many units a low-rank one, and the largest a diagonal."""
    temperature: float = 8.0
    """The logits are divided by it before they are summarised, as the paper does."""

    def __post_init__(self) -> None:
        self.require_choice("covariance", COVARIANCES)
        self.require("rank", self.rank >= 1, "at least 1")
        self.require("temperature", self.temperature > 0, "positive")
        if isinstance(
            self.layers, list | tuple
        ):  # in an nn.Sequential names are whole numbers; 1.10 would be read as 1.1
            self.layers = [str(name) if type(name) is int else name for name in self.layers]
        named = isinstance(self.layers, list) and all(isinstance(name, str) for name in self.layers)
        self.require(
            "layers",
            self.layers in ("all", "top") or named,
            "all, top or a list of module paths, with quotes where a path looks like a decimal number",
        )

    def form_for(self, num_units: int, is_top: bool) -> str:
        """full, low_rank or diagonal, for a layer of so many units; ``is_top``: the logits."""
        if self.covariance == "top_only":
            return "full" if is_top else "diagonal"
        if self.covariance != "auto":
            form = self.covariance
        elif num_units <= self.full_up_to:
            form = "full"
        else:
            form = "low_rank" if num_units <= self.low_rank_up_to else "diagonal"
        # At full rank a low-rank form is only a costlier full one.
        return "full" if form == "low_rank" and num_units <= self.rank else form

    def collector(self, teacher: nn.Module, inputs: InputSpec) -> GaussianCollector:
        from dfkd_exp.metadata.collection import GaussianCollector

        return GaussianCollector(self, teacher, inputs)

    def collect(
        self, teacher: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], inputs: InputSpec | None = None
    ) -> GaussianMetadata:
        """The metadata of a teacher over ``(images[N, C, H, W], labels[N])`` batches, in one pass.

        ``inputs``: shape and range of the images; left out, the shape of the first batch and the range of them all
        (the batches are then kept to be read twice, so leave it out only for small sets).
        """
        from dfkd_exp.metadata.collection import observed_inputs

        if inputs is None:
            batches = list(batches)
            inputs = observed_inputs(batches)
        collector = self.collector(teacher, inputs)
        for images, labels in batches:
            collector.update(images, labels)
        return collector.finish()


@dataclass
class AllLayers(Gaussian):
    """The paper's ``all_layers``: mean and covariance of every layer with weights, per class."""


@dataclass
class TopLayer(Gaussian):
    """The paper's ``top_layer``: mean and covariance of the logits, per class."""

    layers: Any = "top"
    """top; other layers are for all_layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("layers", self.layers == "top", "top (choose metadata=all_layers to name layers)")


SCHEMAS: dict[str, type[MetadataKind]] = {"top_layer": TopLayer, "all_layers": AllLayers}
