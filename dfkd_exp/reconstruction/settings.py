"""How images are made from metadata: the budget; and, in moments.py and sample.py, what is matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import Shape, described
from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dfkd_exp.metadata.metadata import ResolvedMetadata
    from dfkd_exp.reconstruction.targets import LayerTarget

SCHEDULES = ("constant", "cosine")
BALANCES = ("equal", "shares")


@dataclass
class Reconstruction(Settings):
    """Images that make the teacher's activations fit its metadata, optimised in groups."""

    flag: ClassVar[str] = "reconstruction"

    images_per_class: int = 500
    """How many images of each class are made; a multiple of group_size."""
    balance: str = "equal"
    """How many images each class has: equal, or shares: as many in all, but each class as large a part of them as it is of the training
    images, and at least a group."""
    group_size: int = 100
    """Images per group: the atom of reconstruction, whose result depends on nothing but the seed and its index."""
    steps: int = 200
    """Optimiser steps per group, at most."""
    match_weight: float = 1.0
    """Weight of what the metadata asks, beside the terms."""
    tolerance: float = 0.0
    """A group is done when its loss has fallen by no more than this share within patience steps; 0: after all steps. It is for
    schedule=constant: a rate that falls is converging by itself."""
    patience: int = 20
    """Number of steps within which a group's loss must fall, where there is a tolerance."""
    schedule: str = "cosine"
    """Learning rate over the steps: constant, or cosine (falling to zero)."""
    shift: int = 0
    """At each step a group's images are looked at rolled by up to so many pixels along each axis, at random (DeepInversion: 2 for
    CIFAR-10, 30 for ImageNet)."""
    flip: bool = False
    """Whether they are also mirrored along the last axis, left to right, at half of the steps (DeepInversion for ImageNet)."""

    def __post_init__(self) -> None:
        for name in ("images_per_class", "group_size", "steps", "patience"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        self.require(
            "images_per_class",
            self.images_per_class % self.group_size == 0,
            f"a multiple of reconstruction.group_size={self.group_size}",
        )
        self.require("match_weight", self.match_weight >= 0, "at least 0")
        self.require("shift", self.shift >= 0, "at least 0")
        self.require("tolerance", 0 <= self.tolerance < 1, "at least 0 and below 1")
        self.require_choice("schedule", SCHEDULES)
        self.require_choice("balance", BALANCES)

    @property
    def groups_per_class(self) -> int:
        return self.images_per_class // self.group_size

    @property
    def match(self) -> str:
        """What is matched, in a word."""
        return type(self).__name__.lower()

    @property
    def moves(self) -> bool:
        """Whether images are looked at in other places than their own."""
        return bool(self.shift or self.flip)

    def check_shape(self, shape: Shape) -> None:
        """Raise DfkdError if inputs of ``shape`` are to be moved and have no space to be moved in."""
        if self.moves and len(shape) == 1:
            flag = f"{self.named('shift')}={self.shift}" if self.shift else f"{self.named('flip')}=true"
            raise DfkdError(f"{flag} moves what has space, and the data's are {described(shape)}; leave it out")

    def check_counts(self, counts: Sequence[int] | None, name: str) -> None:
        """Raise DfkdError if classes are to have their shares and metadata of kind ``name`` does not know the images of each."""
        if self.balance == "shares" and counts is None:
            raise DfkdError(
                f"{self.named('balance')}=shares needs the number of each class's training images, which {name} does not have; leave it out"
            )

    def check_drawn(self, drawable: bool) -> None:
        """Raise DfkdError if values of layers are to be drawn, and do not follow from all of the metadata."""

    def masks_dropout(self, metadata: ResolvedMetadata) -> bool:
        """Whether the teacher's units are dropped out by one frozen mask per image."""
        return False

    def targets(self, metadata: ResolvedMetadata, labels: Tensor, generator: torch.Generator) -> list[LayerTarget]:
        """What one group of images of classes ``labels[N]`` is to match, in its layers."""
        raise NotImplementedError
