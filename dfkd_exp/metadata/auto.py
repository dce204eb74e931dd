"""The kind of metadata that suits the images and the teacher, as settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from dfkd_exp.inputs import are_photographs
from dfkd_exp.metadata.channels import Channels
from dfkd_exp.metadata.gaussian import AllLayers
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.settings import under_flag

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.collection import Collector


@dataclass
class Auto(MetadataKind):
    """``auto``: of photographs, which are images of three channels and 24 pixels or more a side, seen by a teacher with feature maps or
    tokens, `Channels` with styles; of all else `AllLayers` with nothing but deviations below the logits. What is written is that kind, and
    does not know of this one."""

    def suited_to(self, teacher: nn.Module, inputs: InputSpec) -> MetadataKind:
        from dfkd_exp.models.recording import borrowed, device_of, find_layers

        common = {field.name: getattr(self, field.name) for field in fields(MetadataKind)}
        with under_flag(self.flag):
            if are_photographs(inputs.shape):
                with borrowed(teacher):
                    layers = find_layers(
                        teacher, inputs.example().to(device_of(teacher)), self.layers, batch_norm="input"
                    )
                if any(layer.num_units > layer.num_channels for layer in layers):
                    return Channels(styles=1, **common)
            return AllLayers(covariance="top_only", **common)

    def collector(self, teacher: nn.Module, inputs: InputSpec) -> Collector:
        return self.suited_to(teacher, inputs).collector(teacher, inputs)
