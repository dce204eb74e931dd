"""``match: sample``, the paper's, as settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfkd_exp.errors import DfkdError
from dfkd_exp.reconstruction.settings import Reconstruction

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dfkd_exp.metadata.metadata import ResolvedMetadata
    from dfkd_exp.reconstruction.targets import LayerTarget


@dataclass
class Sample(Reconstruction):
    """``match: sample``, the paper's: each image fits its own random draw of each statistic."""

    relu: bool | None = None
    """Compare after a ReLU; empty: as the paper does, which is with Gaussians, and not with records."""
    normalise: bool = False
    """Divide each layer's error by its mean variance (the paper does not)."""
    one_image: bool = False
    """Of records of several pairs of layers, whether an image is to have one image's in all; else each pair's is drawn by itself."""

    def check_drawn(self, drawable: bool) -> None:
        if not drawable:
            raise DfkdError(
                "reconstruction=sample draws the values of layers, and none follow from a spectrum or from styles (metadata.pixels, "
                "metadata.styles); choose reconstruction=moments"
            )

    def masks_dropout(self, metadata: ResolvedMetadata) -> bool:
        return metadata.dropout_masks

    def targets(self, metadata: ResolvedMetadata, labels: Tensor, generator: torch.Generator) -> list[LayerTarget]:
        """A draw per statistic and layer. The paper averages a layer's units, and of records sums them."""
        import torch

        from dfkd_exp.reconstruction.losses import positive
        from dfkd_exp.reconstruction.targets import LayerTarget

        self.check_drawn(all(statistic.drawable for statistic in metadata.statistics))
        found, of_records = [], None
        for statistic in metadata.statistics:
            if self.one_image and statistic.distribution.of_images:
                of_records = generator.get_state() if of_records is None else of_records
                draws = statistic.sample(labels, torch.Generator().set_state(of_records))
            else:
                draws = statistic.sample(labels, generator)
            rectified = statistic.distribution.rectified if self.relu is None else self.relu
            for position, (index, draw) in enumerate(zip(statistic.layers, draws, strict=True)):
                if self.normalise:
                    weight = 1 / positive(statistic.mean_variances[position].mean())
                else:
                    weight = draw.new_tensor(float(draw.shape[1]) if statistic.distribution.summed else 1.0)
                found.append(LayerTarget(index, draw=draw, draw_weight=weight, rectified=rectified))
        return found
