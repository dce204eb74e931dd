"""Means and deviations per channel, over images and locations, as settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dfkd_exp.errors import ConfigError
from dfkd_exp.metadata.choices import SCOPES
from dfkd_exp.metadata.gaussian import Gaussian

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dfkd_exp.metadata.gaussian_sums import Place
    from dfkd_exp.models.layers import Layer
    from dfkd_exp.models.view import View


@dataclass
class Channels(Gaussian):
    """``channels``: mean and deviation of each channel of a feature map, or of each feature of tokens, over images and locations; of
    vectors as in ``all_layers_diagonal``, and the logits' Gaussian as there.

    Of BatchNorm it is the input that is recorded, where that is not another layer's output already: its output has the same statistics
    but for a factor and an offset. Source: Yin et al. (2020), whose BatchNorm statistics these are of any layer, and per class.
    """

    covariance: str = "top_only"
    """What is kept of a layer's covariance: top_only: full for the logits of at most full_up_to classes, deviations alone for all other
    layers; full, low_rank: of channels, whatever their location; diagonal; auto: by the number of channels."""
    full_up_to: int = 128
    """The logits of at most so many classes keep a full covariance: of a thousand it would be larger than all the rest."""
    grid: int = 1
    """Into how many windows each axis of a feature map, or tokens, is divided; each channel of each has statistics of its own, which tell
    where things are: 1: all locations together."""
    styles: int = 0
    """Whether also the styles of feature maps are kept, how images differ from one another: mean and deviation, over images, of each
    channel's mean and of its log-deviation within an image, 1: of whole maps, or within each window, 2 and more: of so many along each
    axis; 0: none. Twice the bytes of the channels for each window, and images that vary as photographs do."""
    scope: str = "class"
    """Of what images the statistics of hidden layers are: those of each class by themselves, or all of them together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("scope", SCOPES)
        self.require("grid", self.grid >= 1, "at least 1: all locations together")
        self.require("styles", self.styles >= 0, "at least 0, which is none")
        alone = self.grid == 1 or self.covariance in ("top_only", "diagonal")
        self.require("covariance", alone, "top_only or diagonal with metadata.grid above 1")

    @property
    def drawable(self) -> bool:
        return super().drawable and not self.styles

    def check_private(self) -> None:
        if self.styles:
            raise ConfigError("metadata.dp.epsilon has no noise for styles: leave metadata.styles out")
        if self.scope != "class":
            raise ConfigError("metadata.dp.epsilon is for statistics of each class: set metadata.scope=class")

    def recorded(self, teacher: nn.Module, example: Tensor) -> list[Layer]:
        from dfkd_exp.models.recording import find_layers

        found = self.with_images(find_layers(teacher, example, self.layers, batch_norm="input"), example)
        if self.styles and all(layer.num_units == layer.num_channels for layer in found):
            raise ConfigError(
                "metadata.styles is for maps and tokens, and no layer of the teacher has any; leave it out"
            )
        return found

    def places(self, layers: Sequence[Layer], num_classes: int) -> list[Place]:
        found = self.places_of(layers, num_classes, self.scope)
        return [each for place in found for each in (place, *self._styles_of(place))]

    def _styles_of(self, place: Place) -> list[Place]:
        from dfkd_exp.models.styles import Styles

        [layer] = place.recorded
        kept = self.styles and layer.num_units > layer.num_channels and (place.view is None or place.view.pools)
        return [replace(place, view=Styles(layer, self.styles))] if kept else []

    def view(self, layer: Layer) -> View | None:
        from dfkd_exp.models.regions import regions_of

        return super().view(layer) or regions_of(layer, self.grid)
