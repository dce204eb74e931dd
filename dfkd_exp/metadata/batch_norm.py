"""The means and variances that a teacher's BatchNorm layers carry, as settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.kind import MetadataKind

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.statistic import Accumulator
    from dfkd_exp.models.layers import Layer


@dataclass
class BatchNormStatistics(MetadataKind):
    """``batch_norm``: the running mean and variance of the input of each BatchNorm layer, over all classes. They are in the teacher's
    weights, so that nothing is published and no image is needed.

    Source: Yin et al. (2020), "Dreaming to distill", eq. 4.
    """

    needs_images: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("layers", self.layers == "all", "all: BatchNorm layers and no others carry statistics")
        self.require("signal", self.signal == "before_relu", "before_relu: that is what BatchNorm layers see")

    @property
    def sized_beforehand(self) -> bool:
        return True

    def recorded(self, teacher: nn.Module, example: Tensor) -> list[Layer]:
        from dfkd_exp.models.recording import inputs_of_batch_norm

        if not (found := inputs_of_batch_norm(teacher, example)):
            raise DfkdError(
                "metadata=batch_norm: the teacher has no BatchNorm layer with running statistics; choose metadata=channels, which collects "
                "the same of any network's layers, or another network"
            )
        return found

    def accumulators(
        self, teacher: nn.Module, layers: Sequence[Layer], inputs: InputSpec, num_classes: int
    ) -> list[Accumulator]:
        from dfkd_exp.metadata.own_statistics import OwnStatistics

        return [OwnStatistics(layers)]
