"""Images in the directions that the teacher's weights prefer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp import console
from dfkd_exp.reconstruction.parametrisation.base import FromMean, ImageSpace, within_range

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.metadata import ResolvedMetadata
    from dfkd_exp.reconstruction.prior import WeightsPrior


@dataclass
class Latents(FromMean):
    """Latents of a Gaussian of images that the teacher's weights give (`dfkd_exp.reconstruction.prior`)."""

    directions: float = 24.0
    """How many directions images vary in, effectively."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("directions", self.directions > 1, "above 1")

    def check(self, teacher: nn.Module, inputs: InputSpec) -> None:
        from dfkd_exp.reconstruction.prior import first_dense_block

        first_dense_block(teacher, inputs)

    def build(self, teacher: nn.Module, metadata: ResolvedMetadata) -> ImageSpace:
        from dfkd_exp.models.recording import device_of
        from dfkd_exp.reconstruction.prior import weights_prior

        if self.start != "noise":
            console.note("images start from noise, not from the metadata: they are latents, whose means are not known")
        prior = weights_prior(teacher, metadata.inputs, self.directions, self.means(metadata.inputs))
        return LatentSpace(prior.to(device_of(teacher)))


class LatentSpace(ImageSpace):
    """Latents ``[M, D]`` of deviation 1."""

    def __init__(self, prior: WeightsPrior):
        self.prior = prior

    def start(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        return torch.randn(len(labels), len(self.prior.basis), generator=generator)

    def pixels(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return within_range(self.prior(values))
