"""Pixels or latents, by what the metadata says of how images look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp.reconstruction.parametrisation.base import ImageSpace
from dfkd_exp.reconstruction.parametrisation.latents import Latents
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.metadata.metadata import ResolvedMetadata


@dataclass
class Auto(Pixels, Latents):
    """Latents where the metadata says nothing of the teacher's first layer and the weights give any, and pixels otherwise."""

    def __post_init__(self) -> None:
        Pixels.__post_init__(self)
        Latents.__post_init__(self)

    def build(self, teacher: nn.Module, metadata: ResolvedMetadata) -> ImageSpace:
        from dfkd_exp.reconstruction.prior import gives_prior, sees_first_layer

        latents = not sees_first_layer(teacher, metadata) and gives_prior(
            teacher, metadata.inputs, self.directions, self.means(metadata.inputs)
        )
        return (Latents if latents else Pixels).build(self, teacher, metadata)
