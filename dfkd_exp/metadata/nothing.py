"""No metadata at all, as settings: what methods that know nothing but the teacher start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.metadata.kind import MetadataKind

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.statistic import Accumulator
    from dfkd_exp.models.layers import Layer


@dataclass
class Nothing(MetadataKind):
    """``none``: nothing is published beside the teacher, and nothing matched. What images are follows from the objective's terms."""

    needs_images: ClassVar[bool] = False
    publishes: ClassVar[bool] = False

    layers: str = "top"
    """Nothing of any layer is kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("layers", self.layers == "top", "left as it is: nothing is kept")

    @property
    def sized_beforehand(self) -> bool:
        return True

    def recorded(self, teacher: nn.Module, example: Tensor) -> list[Layer]:
        from dfkd_exp.models.recording import find_layers

        return find_layers(teacher, example, "top")

    def accumulators(
        self, teacher: nn.Module, layers: Sequence[Layer], inputs: InputSpec, num_classes: int
    ) -> list[Accumulator]:
        return []
