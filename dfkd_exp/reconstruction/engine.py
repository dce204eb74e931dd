"""How fast images are made: precision, form of the convolutions, compilation, images side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dfkd_exp.settings import Settings

PRECISIONS = ("auto", "fp32", "bf16")
CONVOLUTIONS = ("auto", "direct", "rows")


@dataclass
class Engine(Settings):
    """How the loop computes what it computes. What is left open is chosen by measuring, once per machine and teacher."""

    flag: ClassVar[str] = "engine"
    ephemeral: ClassVar[tuple[str, ...]] = ("convolutions", "compile", "images_per_batch")

    precision: str = "auto"
    """Of the teacher's forward and backward pass: fp32, bf16, or auto. Images, statistics and losses are fp32 always."""
    convolutions: str = "auto"
    """direct: PyTorch's; rows: as matrix products, faster on a CPU for small images; or auto."""
    compile: bool | None = None
    """Compile loss and gradient into one kernel sequence (torch.compile); empty: where there is a compiler and it pays."""
    images_per_batch: int | None = None
    """How many images are optimised side by side; empty: what is fastest."""

    def __post_init__(self) -> None:
        self.require_choice("precision", PRECISIONS)
        self.require_choice("convolutions", CONVOLUTIONS)
        self.require(
            "images_per_batch", self.images_per_batch is None or self.images_per_batch >= 1, "at least 1, or empty"
        )

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be measured."""
        return "auto" not in (self.precision, self.convolutions) and None not in (self.compile, self.images_per_batch)


PLAIN = Engine(precision="fp32", convolutions="direct", compile=False, images_per_batch=1000)
"""PyTorch as it is: the reference for all others."""
