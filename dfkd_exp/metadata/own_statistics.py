"""Statistics that a teacher carries in its BatchNorm layers: read off its modules, whoever has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.covariance import Diagonal
from dfkd_exp.metadata.statistic import Accumulator, Observed, Statistic, Summary, TeacherSide
from dfkd_exp.models.layers import Layer
from dfkd_exp.models.recording import carries_statistics


@dataclass
class Carried(Summary):
    """The running mean and variance of a BatchNorm layer of ``channels``: of its input, over all classes. Nothing of it is stored."""

    form: ClassVar[str] = "carried"
    origin: ClassVar[str] = "teacher"
    holds: ClassVar[str] = "nothing: the running mean and variance that the network's BatchNorm carries stand for it"
    bases: ClassVar[tuple[str, ...]] = ("channels",)
    scopes: ClassVar[tuple[str, ...]] = ("all",)
    header_fields: ClassVar[tuple[str, ...]] = ("channels",)
    channels: int

    @property
    def num_coefficients(self) -> int:
        return self.channels

    def shapes(self, rows: int, coefficients: int) -> dict[str, list[int]]:
        return {}

    def check(self, layers: Sequence[Layer]) -> None:
        if len(layers) > 1 or layers[0].side != "input" or layers[0].num_channels != self.channels:
            raise ValueError(f"statistics of {self.channels} channels that are carried by no one layer's input")

    def distribution(self, side: TeacherSide) -> Diagonal:
        [layer] = side.layers
        module = dict(side.teacher.named_modules()).get(layer.name)
        if module is None or not carries_statistics(module) or len(module.running_mean) != self.channels:
            raise DfkdError(
                f"the teacher has no BatchNorm layer {layer.name!r} of {self.channels} channels, whose statistics the metadata "
                "names; use the teacher of the same release"
            )
        mean, variance = module.running_mean, module.running_var
        return Diagonal(mean[None].float().clone(), variance[None].float().clone())


class OwnStatistics(Accumulator):
    """Has nothing to see: the teacher has seen it all."""

    def __init__(self, layers: Sequence[Layer]):
        self.layers = layers

    def observe(self, batch: Observed) -> None:
        pass

    def merge(self, other: Self) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {}

    def with_state(self, state: Mapping[str, Tensor]) -> Self:
        return self

    def finish(self, storage: str) -> list[Statistic]:
        return [
            Statistic((index,), Carried(layer.num_channels), "channels", scope="all")
            for index, layer in enumerate(self.layers)
        ]
