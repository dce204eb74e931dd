"""The kind of metadata that suits the images, as settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from dfkd_exp.inputs import are_photographs
from dfkd_exp.metadata.channels import Channels
from dfkd_exp.metadata.gaussian import AllLayers
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.settings import under_flag

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec, Shape
    from dfkd_exp.metadata.collection import Collector
    from dfkd_exp.models.layers import Layer


@dataclass
class Auto(MetadataKind):
    """``auto``: of photographs, which are images of three channels and 24 pixels or more a side, `Channels` with styles; of all else
    `AllLayers` with nothing but deviations below the logits. What is written is that kind, and does not know of this one."""

    def suited_to(self, shape: Shape) -> MetadataKind:
        common = {field.name: getattr(self, field.name) for field in fields(MetadataKind)}
        with under_flag(self.flag):
            return (
                Channels(styles=1, **common) if are_photographs(shape) else AllLayers(covariance="top_only", **common)
            )

    def recorded(self, teacher: nn.Module, example: Tensor) -> list[Layer]:
        return self.suited_to(tuple(example.shape[1:])).recorded(teacher, example)

    def collector(self, teacher: nn.Module, inputs: InputSpec) -> Collector:
        return self.suited_to(inputs.shape).collector(teacher, inputs)
