"""What images are made of, by what the metadata says of how they look, and by their size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp.reconstruction.parametrisation.base import ImageSpace, Parametrisation
from dfkd_exp.reconstruction.parametrisation.frequencies import Frequencies
from dfkd_exp.reconstruction.parametrisation.latents import Latents
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.inputs import InputSpec, Shape
    from dfkd_exp.metadata.metadata import ResolvedMetadata

SMOOTH_FROM = 16
"""Pixels along each side, from which on images are taken to be smooth, as photographs are; in 8x8 digits strokes are a pixel wide."""


@dataclass
class Auto(Pixels, Latents, Frequencies):
    """Latents where the metadata says nothing of the teacher's first layer and the weights give any; else waves for images of at least
    16 pixels along each side, unless it says what is where in them, and pixels for everything else. ``directions`` is of latents,
    ``falloff`` and ``colour`` of waves, ``clamp`` and ``blur_…`` of pixels."""

    init_std: float | None = None
    """Deviation of the noise that images start from; empty: the usual one of pixels or of waves."""

    def check(self, teacher: nn.Module, inputs: InputSpec) -> None:
        """There is always one of the three."""

    def build(self, teacher: nn.Module, metadata: ResolvedMetadata) -> ImageSpace:
        return self.chosen(teacher, metadata).build(self, teacher, metadata)

    def chosen(self, teacher: nn.Module, metadata: ResolvedMetadata) -> type[Parametrisation]:
        """Which of the three."""
        from dfkd_exp.reconstruction.prior import gives_prior, sees_first_layer

        inputs = metadata.inputs
        seen = sees_first_layer(teacher, metadata)
        if not seen and gives_prior(teacher, inputs, self.directions, self.means(inputs)):
            return Latents
        return Frequencies if are_smooth(inputs.shape) and not (seen and says_where(metadata)) else Pixels


def says_where(metadata: ResolvedMetadata) -> bool:
    """Whether the first statistics of values at their places are of units one by one, or of windows, and not of channels."""
    from dfkd_exp.reconstruction.start import first_drawable

    found = first_drawable(metadata)
    view = None if found is None else found[1].view
    return found is not None and (view is None or view.basis == "regions")


def are_smooth(shape: Shape) -> bool:
    """Whether inputs of ``shape`` are images large enough for neighbouring pixels to be alike."""
    return len(shape) == 3 and min(shape[1:]) >= SMOOTH_FROM
