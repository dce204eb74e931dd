"""Gaussians of the teacher's layers: the paper's ``top_layer``, ``all_layers`` and ``all_layers_dropout``, as settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.console import warn
from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.metadata.choices import PIXELS
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.metadata.memory import WARN_FROM, check_room
from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.gaussian_sums import GaussianSums, Place
    from dfkd_exp.metadata.statistic import Accumulator
    from dfkd_exp.models.layers import Layer
    from dfkd_exp.models.view import View

MOST_NUMBERS = 24_000_000
"""Of the covariances of one layer, of all classes together, where their form is not named: 96 MB of fp32, and six times that while they are
summed. Whole covariances of logits grow with the cube of the classes: of 1,000 they would have 2 GB, and 24 GB of sums."""
BYTES_OF_SUMS = 24
"""For each number of the matrices that are summed: in float32 and float64, and copies as they are finished."""
BYTES_OF_A_UNIT = 56
"""For each unit and class: sums and squares in float64, a point to sum about, and mean and variance as they are finished, measured."""
COVARIANCES = ("auto", "full", "low_rank", "diagonal", "top_only")


@dataclass
class DifferentialPrivacy(Settings):
    """Noise on the sums that the statistics are made of, so that hardly anything follows from them about any one image."""

    flag: ClassVar[str] = "metadata.dp"

    epsilon: float | None = None
    """Privacy budget of the whole metadata, at most 100, beyond which it would promise nothing; empty: no noise, and no claim."""
    delta: float = 1e-5
    """Probability with which the claim may fail; below one over the number of images, and better well below."""
    clip: float = 2.0
    """Largest root mean square of an image's activations in a layer; larger ones are scaled down. To be chosen without looking at
    the data."""

    def __post_init__(self) -> None:
        # An attacker's odds change by a factor of exp(epsilon) at most: beyond any that is worth stating long before 100.
        self.require("epsilon", self.epsilon is None or 0 < self.epsilon <= 100, "positive and at most 100, or empty")
        self.require("delta", 0 < self.delta <= 0.01, "positive and at most 0.01")
        self.require("clip", self.clip > 0, "positive")

    def check_images(self, num_images: int) -> None:
        """Raise ConfigError if the claim says nothing of so many images: to publish each as it is with probability delta would keep it, and
        at one over their number that is one of them on average."""
        rule = f"below 1 / images, which is {1 / num_images:.2g} for {num_images:,} images"
        self.require("delta", self.epsilon is None or self.delta * num_images < 1, rule)


@dataclass
class Gaussian(MetadataKind):
    """A Gaussian per class and layer: its mean and a covariance. Logits are divided by the temperature first.

    Source: Lopes et al. (2017). The paper always keeps full covariances.
    """

    covariance: str = "auto"
    """What is kept of a layer's covariance: full, low_rank (plus a diagonal), diagonal; auto: by the number of units; top_only: full for
    the logits and diagonal for all other layers, which is all that ``match: moments`` uses."""
    rank: int = 32
    """Rank of the low-rank covariances."""
    full_up_to: int = 2048
    """With covariance=auto, layers of at most so many units keep a full covariance; with top_only the logits do, of so many classes. Where
    those of all classes together would have more than 24 million numbers (from 364 classes on, for their logits), they do not."""
    low_rank_up_to: int = 16384
    """With covariance=auto, larger layers of at most so many units keep a low-rank covariance, within the same numbers, and the largest a
    diagonal one."""
    class_rank: int = 0
    """Of hidden layers of which only means and variances are kept: those of all classes together, and along so many directions how each
    class differs from them, in far fewer bytes where classes are many; 0: of each class by itself."""
    pixels: str = "none"
    """What is kept of the images themselves, as of a layer before all others: none, moments (what is kept of hidden layers), or spectrum:
    mean and deviation of the logarithm of the power of each frequency in each channel, wherever things are."""
    dp: DifferentialPrivacy = field(default_factory=DifferentialPrivacy)
    """Differential privacy of the statistics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("covariance", COVARIANCES)
        self.require_choice("pixels", PIXELS)
        self.require("rank", self.rank >= 1, "at least 1")
        self.require("class_rank", self.class_rank >= 0, "at least 0: each class by itself")
        for name in ("full_up_to", "low_rank_up_to"):
            self.require(name, getattr(self, name) >= 0, "at least 0")
        if self.dp.epsilon is not None:
            few = self.covariance in ("diagonal", "top_only") or (
                self.layers == "top" and self.covariance in ("full", "auto")
            )
            self.require(
                "covariance", few, "top_only or diagonal with metadata.dp.epsilon: noise would drown larger ones"
            )
            self.check_private()
            self.require("pixels", self.pixels == "none", "none with metadata.dp.epsilon")
            self.require("class_rank", self.class_rank == 0, "0 with metadata.dp.epsilon")

    @property
    def sized_beforehand(self) -> bool:
        return True

    @property
    def drawable(self) -> bool:
        return self.pixels != "spectrum"

    def check_private(self) -> None:
        """Raise ConfigError if there is no differential privacy for such statistics."""

    def check_images(self, num_images: int) -> None:
        self.dp.check_images(num_images)

    def check_observed_inputs(self) -> None:
        if self.dp.epsilon is not None:
            raise ConfigError(
                "with metadata.dp.epsilon the range of the images must not be looked up in them, since it is published: say it "
                "(data.range=[LOW,HIGH] data.standardise=false; of collect, inputs)"
            )

    def described(self) -> dict[str, Any]:
        unsaid = ["dp"] * (self.dp.epsilon is None) + ["class_rank"] * (not self.class_rank)
        return {name: value for name, value in super().described().items() if name not in unsaid}

    def claims(self, layers: Sequence[Layer]) -> dict[str, Any]:
        if self.dp.epsilon is None:
            return {}
        from dfkd_exp.metadata.differential_privacy import NEIGHBOURS, noise_multiplier

        noise = noise_multiplier(self.dp.epsilon, self.dp.delta, len(layers))
        return {"dp": {**asdict(self.dp), "noise_multiplier": noise, "neighbours": NEIGHBOURS}}

    def form_for(self, num_values: int, is_top: bool, rows: int = 1) -> str:
        """full, low_rank or diagonal, for a layer of so many units (or channels), of so many classes; ``is_top``: the logits."""
        full = num_values <= self.full_up_to and rows * num_values * (num_values + 1) // 2 <= MOST_NUMBERS
        low_rank = num_values <= self.low_rank_up_to and rows * num_values * self.rank <= MOST_NUMBERS
        if self.covariance == "top_only":
            return "full" if is_top and full else "diagonal"
        fitting = "full" if full else "low_rank" if low_rank else "diagonal"
        form = fitting if self.covariance == "auto" else self.covariance
        # At full rank a low-rank form is only a costlier full one.
        return "full" if form == "low_rank" and num_values <= self.rank else form

    def recorded(self, teacher: nn.Module, example: Tensor) -> list[Layer]:
        return self.with_images(super().recorded(teacher, example), example)

    def with_images(self, layers: list[Layer], example: Tensor) -> list[Layer]:
        """The layers, and before them the images, if something is kept of these."""
        from dfkd_exp.models.layers import images_of

        if self.pixels == "none":
            return layers
        shape = tuple(example.shape[1:])
        if self.pixels == "spectrum" and len(shape) < 2:
            raise DfkdError(
                "metadata.pixels=spectrum is for images, series and volumes, not rows of a table; leave it out"
            )
        return [images_of(shape), *layers]

    def view(self, layer: Layer) -> View | None:
        """What is summarised of a hidden layer, if that is not its units."""
        from dfkd_exp.models.spectrum import Spectrum

        return Spectrum(layer) if self.pixels == "spectrum" and not layer.name else None

    def accumulators(
        self, teacher: nn.Module, layers: Sequence[Layer], inputs: InputSpec, num_classes: int
    ) -> list[Accumulator]:
        places = self.places(layers, num_classes)
        self._check_shared(places, len(layers))
        return [self.sums(place, len(layers)) for place in places]

    def _check_shared(self, places: Sequence[Place], num_layers: int) -> None:
        """Raise DfkdError if classes are to be told apart along directions that they share, and nowhere are."""
        if self.class_rank and all(self.form_of(place, num_layers) != "shared" for place in places):
            raise DfkdError(
                f"metadata.class_rank={self.class_rank} is for means and deviations of each of more classes, and nothing that is kept "
                f"here would take fewer bytes so ({max(place.num_rows for place in places):,} classes, covariance={self.covariance}); "
                "leave it out, or choose a smaller one, or metadata.covariance=top_only"
            )

    def places(self, layers: Sequence[Layer], num_classes: int) -> list[Place]:
        """Of what there are sums: of each layer by itself."""
        return self.places_of(layers, num_classes, "class")

    def places_of(self, layers: Sequence[Layer], num_classes: int, scope: str) -> list[Place]:
        """Hidden layers in their `view`, of the images of a ``scope``, and the logits, of each class."""
        from dfkd_exp.metadata.gaussian_sums import Place

        *hidden, top = enumerate(layers)
        found = [Place((index,), (layer,), num_classes, scope, self.view(layer)) for index, layer in hidden]
        return [*found, Place((top[0],), (top[1],), num_classes)]

    def form_of(self, place: Place, num_layers: int) -> str:
        """The form of the covariances of a place among ``num_layers`` recorded layers."""
        from dfkd_exp.metadata.shared import fewer_bytes

        pools, is_top = place.view is None or place.view.pools, place.layers == (num_layers - 1,)
        form = self.form_for(place.num_values, is_top, place.num_rows) if pools else "diagonal"
        # Logits are what classes differ in, each along a direction of its own.
        may_share = self.class_rank and not is_top and form == "diagonal"
        fewer = may_share and fewer_bytes(place.num_rows, place.num_values, self.class_rank, self.storage)
        return "shared" if fewer else form

    def sums(self, place: Place, num_layers: int) -> GaussianSums:
        """What accumulates for one place of ``num_layers`` recorded layers."""
        from dfkd_exp.metadata.differential_privacy import noise_multiplier
        from dfkd_exp.metadata.gaussian_sums import GaussianSums, PrivateGaussianSums

        form = self.form_of(place, num_layers)
        self._warn_of(form, place)
        if self.dp.epsilon is None:
            return GaussianSums(place, form, self.class_rank if form == "shared" else self.rank)
        noise = noise_multiplier(self.dp.epsilon, self.dp.delta, num_layers)
        is_full_top = place.layers == (num_layers - 1,) and form == "full"
        return PrivateGaussianSums(place, form if is_full_top else "diagonal", self.dp.clip, noise)

    def check_memory(self, layers: Sequence[Layer], num_classes: int) -> None:
        from dfkd_exp.metadata.gaussian_sums import num_sums

        found = self.places(layers, num_classes)
        self._check_shared(found, len(layers))
        sums = sum(num_sums(place, self.form_of(place, len(layers)), self.rank) for place in found)
        units = sum(place.num_rows * place.num_values for place in found)
        check_room(
            BYTES_OF_A_UNIT * units + BYTES_OF_SUMS * sums,
            f"statistics of {num_classes:,} classes in {len(layers):,} layers",
            "metadata=channels or metadata.layers=dense takes less",
        )

    def _warn_of(self, form: str, place: Place) -> None:
        """Say how large whole covariances will be, before memory is taken for them."""
        rows, values = place.num_rows, place.num_values
        num_bytes = BYTES_OF_SUMS * rows * values**2
        if form == "full" and num_bytes >= WARN_FROM:
            warn(
                f"{rows:,} whole covariances of {place.name} ({values:,} values) take about {num_bytes / 1e9:,.1f} GB of memory, and "
                f"{2 * rows * values * (values + 1) / 1e9:,.2f} GB as fp32; metadata.covariance=auto, top_only or diagonal keeps less"
            )


@dataclass
class AllLayers(Gaussian):
    """The paper's ``all_layers``: mean and covariance of every layer with weights, per class."""


@dataclass
class TopLayer(Gaussian):
    """The paper's ``top_layer``: mean and covariance of the logits, per class."""

    layers: Any = "top"
    """The recorded layers: top, and no other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("layers", self.layers == "top", "top (choose metadata=all_layers to name layers)")


@dataclass
class AllLayersDropout(Gaussian):
    """The paper's ``all_layers_dropout``: as ``all_layers``; images are then made through a teacher whose units are dropped out by one
    frozen mask per image, at the teacher's own rates."""

    @property
    def dropout_masks(self) -> bool:
        return True
