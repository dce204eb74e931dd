"""Kinds of network that are not the project's, as somebody else's package would have them: named by import path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.kind import Network


@dataclass
class Tiny(Network):
    """A perceptron that wants inputs in [-1, 1], and has trained weights elsewhere than in a file."""

    of_weights: ClassVar[tuple[str, ...]] = ("published",)
    downloads: ClassVar[list[str]] = []

    width: int = 8
    """Hidden units."""
    published: bool = False
    """Whether the weights are those that its author published."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("width", self.width >= 1, "at least 1")

    @property
    def pretrained(self) -> bool:
        return self.published or super().pretrained

    def wanted_inputs(self, given: InputSpec) -> InputSpec:
        return replace(given, low=(-1.0,), high=(1.0,))

    def make(self, inputs, num_classes):
        from dfkd_exp.models.networks import Mlp

        return Mlp(inputs.shape, num_classes, (self.width,))

    def give_weights(self, network, inputs) -> None:
        if not self.published:
            return super().give_weights(network, inputs)
        self.downloads.append(self.title)
        for parameter in network.parameters():
            parameter.data.fill_(0.25)


@dataclass
class Large(Tiny):
    """Wants images that are larger than anybody has."""

    def wanted_inputs(self, given: InputSpec) -> InputSpec:
        return replace(given, shape=(1, 999, 999))
