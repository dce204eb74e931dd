"""The kinds of metadata as settings: which layers x which basis x which summary. The paper's kinds are points of that space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.errors import ConfigError
from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.collection import Collector
    from dfkd_exp.metadata.metadata import Metadata

BASES = ("units", "separable", "layer_pairs", "all_layers")
SUMMARIES = ("gaussian", "records")
COVARIANCES = ("auto", "full", "low_rank", "diagonal", "top_only")
SIGNALS = ("before_relu", "after_relu")
STORAGES = ("fp32", "fp16", "bf16", "int8")
GRAPHS = ("weights", "coactivation")


@dataclass
class MetadataKind(Settings):
    """A kind of metadata: what a teacher leaves behind."""

    flag: ClassVar[str] = "metadata"
    basis: ClassVar[str] = "units"
    summary: ClassVar[str] = "gaussian"
    dropout_masks: ClassVar[bool] = False

    layers: Any = "all"
    """all, dense (those that put out a vector), top, or a list of module paths such as [features.0,classifier.1]; the logits
    always belong to it."""
    temperature: float = 8.0
    """The logits are divided by it before they are summarised, as the paper does."""
    signal: str = "before_relu"
    """What is summarised of a hidden layer: its output before_relu, or after_relu."""
    storage: str = "fp32"
    """Type of the published numbers: fp32, fp16, bf16, or int8 with a scale for each row."""

    def __post_init__(self) -> None:
        self.require("temperature", self.temperature > 0, "positive")
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

    def described(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        return {"kind": type(self).__name__, **self.described()}

    def check_observed_inputs(self) -> None:
        """Raise ConfigError if the range of the images must not be looked up in them."""

    def collector(self, teacher: nn.Module, inputs: InputSpec) -> Collector:
        """An object with ``update(images, labels)``, ``merge(other)`` and ``finish()``: one streaming, mergeable pass."""
        from dfkd_exp.metadata.collection import Collector

        return Collector(self, teacher, inputs)

    def collect(
        self, teacher: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], inputs: InputSpec | None = None
    ) -> Metadata:
        """The metadata of a teacher over ``(images[N, C, H, W], labels[N])`` batches, in one pass.

        ``inputs``: shape and range of the images; left out, the shape of the first batch and the range of them all
        (the batches are then kept to be read twice, so leave it out only for small sets).
        """
        from dfkd_exp.metadata.collection import observed_inputs

        if inputs is None:
            self.check_observed_inputs()
            batches = list(batches)
            inputs = observed_inputs(batches)
        collector = self.collector(teacher, inputs)
        for images, labels in batches:
            collector.update(images, labels)
        return collector.finish()


@dataclass
class DifferentialPrivacy(Settings):
    """Noise on the sums that the statistics are made of, so that hardly anything follows from them about any one image."""

    flag: ClassVar[str] = "metadata.dp"

    epsilon: float | None = None
    """Privacy budget of the whole metadata; empty: no noise, and no claim."""
    delta: float = 1e-5
    """Probability with which the claim may fail; well below one over the number of images."""
    clip: float = 2.0
    """Largest root mean square of an image's activations in a layer; larger ones are scaled down. To be chosen without looking at
    the data."""

    def __post_init__(self) -> None:
        self.require("epsilon", self.epsilon is None or self.epsilon > 0, "positive, or empty")
        self.require("delta", 0 < self.delta < 1, "in (0, 1)")
        self.require("clip", self.clip > 0, "positive")


@dataclass
class Gaussian(MetadataKind):
    """A Gaussian per class and layer: its mean and a covariance. Logits are divided by the temperature first.

    Source: METHOD, "What the paper keeps". The paper always keeps full covariances.
    """

    covariance: str = "auto"
    """full, low_rank (plus a diagonal), diagonal; auto: by the number of units of the layer; top_only: full for the logits
    and diagonal for all other layers, which is all that ``match: moments`` uses."""
    rank: int = 32
    """Rank of the low-rank covariances."""
    full_up_to: int = 2048
    """auto: layers of at most so many units keep a full covariance,"""
    low_rank_up_to: int = 16384
    """auto: larger ones of at most so many units a low-rank one, and the largest a diagonal."""
    dp: DifferentialPrivacy = field(default_factory=DifferentialPrivacy)
    """Differential privacy of the statistics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("covariance", COVARIANCES)
        self.require("rank", self.rank >= 1, "at least 1")
        if self.dp.epsilon is not None:
            few = self.covariance in ("diagonal", "top_only") or self.layers == "top"
            self.require(
                "covariance", few, "top_only or diagonal with metadata.dp.epsilon: noise would drown larger ones"
            )
            if self.basis != "units" or self.summary != "gaussian":
                raise ConfigError(
                    "metadata.dp.epsilon is for Gaussians of units: metadata=top_layer, all_layers_diagonal, or all_layers with "
                    "metadata.covariance=top_only"
                )

    def check_observed_inputs(self) -> None:
        if self.dp.epsilon is not None:
            raise ConfigError(
                "with metadata.dp.epsilon the range of the images must not be looked up in them; give collect its inputs"
            )

    def described(self) -> dict[str, Any]:
        fields = super().described()
        if self.dp.epsilon is None:  # as it was before there was a choice
            del fields["dp"]
        return fields

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


@dataclass
class AllLayersDropout(Gaussian):
    """The paper's ``all_layers_dropout``: as ``all_layers``; images are then made through a teacher whose units are dropped out by one
    frozen mask per image, at the teacher's own rates."""

    dropout_masks: ClassVar[bool] = True


@dataclass
class Spatial(Gaussian):
    """``spatial``: as ``all_layers``, but a feature map's covariance is that of its channels times that of its locations, of low rank.

    Source: METHOD, "What the paper keeps". On a dense layer it is ``all_layers``.
    """

    basis: ClassVar[str] = "separable"


@dataclass
class Recorded(MetadataKind):
    """Records: the activations of some images per class, each by its largest coefficients."""

    summary: ClassVar[str] = "records"

    fraction: float = 0.1
    """Share of the coefficients that is kept of each record (paper: 0.1)."""
    records_per_class: int = 100
    """Images per class whose activations are recorded."""
    graph: str = "weights"
    """Edges between units of consecutive layers: the teacher's weights, or the coactivation of their class means."""
    graph_rank: int | None = None
    """Only so many pairs of leading frequencies of each graph; empty: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("fraction", 0 < self.fraction <= 1, "in (0, 1]")
        self.require("records_per_class", self.records_per_class >= 1, "at least 1")
        self.require_choice("graph", GRAPHS)
        self.require("graph_rank", self.graph_rank is None or self.graph_rank >= 1, "at least 1, or empty")


@dataclass
class SpectralAllLayers(Recorded):
    """The paper's ``spectral_all_layers``: records by their largest graph Fourier coefficients, on one graph over all recorded units."""

    basis: ClassVar[str] = "all_layers"


@dataclass
class SpectralLayerPairs(Recorded):
    """The paper's ``spectral_layer_pairs``: the same on one graph for each pair of consecutive recorded layers."""

    basis: ClassVar[str] = "layer_pairs"


@dataclass
class Composed(Gaussian, Recorded):
    """Any other combination: ``metadata=composed metadata.basis=layer_pairs metadata.summary=gaussian metadata.covariance=diagonal``."""

    basis: str = "units"  # type: ignore[misc]
    """units as they are; separable: feature maps by channels and locations; layer_pairs or all_layers: graph Fourier coefficients, on
    a graph for each pair of consecutive layers or on one over all of them."""
    summary: str = "gaussian"  # type: ignore[misc]
    """gaussian, or records: the largest coefficients of some images."""
    dropout_masks: bool = False  # type: ignore[misc]
    """Make images through a teacher that is masked by its own dropout."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("basis", BASES)
        self.require_choice("summary", SUMMARIES)
        records = self.summary == "records"
        self.require("basis", not (records and self.basis == "separable"), "another one with metadata.summary=records")
        two_passes = self.basis in ("layer_pairs", "all_layers") and not records and self.graph == "coactivation"
        self.require("graph", not two_passes, "weights with metadata.summary=gaussian: its means are needed beforehand")
