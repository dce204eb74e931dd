"""Gaussians of feature maps by channels and by locations, as settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp.errors import ConfigError
from dfkd_exp.metadata.gaussian import Gaussian

if TYPE_CHECKING:
    from dfkd_exp.metadata.gaussian_sums import Place


@dataclass
class Spatial(Gaussian):
    """``spatial``: as ``all_layers``, but a feature map's covariance is that of its channels times that of its locations, of low rank.

    Source: Lopes et al. (2017). On a dense layer, and on tokens, it is ``all_layers``.
    """

    def check_private(self) -> None:
        raise ConfigError(
            "metadata.dp.epsilon is for Gaussians of units or channels: metadata=top_layer, all_layers_diagonal, channels, or all_layers "
            "with metadata.covariance=top_only"
        )

    def form_of(self, place: Place, num_layers: int) -> str:
        return "separable" if is_map(place) else super().form_of(place, num_layers)


def is_map(place: Place) -> bool:
    """Whether it is of the units of one layer of feature maps, channels first, with more than one location."""
    [*_, layer] = place.recorded
    several = layer.num_units > layer.num_channels
    return (
        place.view is None
        and len(place.recorded) == 1
        and len(layer.shape) == 3
        and layer.channel_axis == 0
        and several
    )
