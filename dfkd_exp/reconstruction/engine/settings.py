"""How fast images are made: precision, form of the convolutions, compilation, replaying, images side by side."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from dfkd_exp.settings import Settings

PRECISIONS = ("auto", "fp32", "tf32", "bf16")
CONVOLUTIONS = ("auto", "direct", "blocks", "channels_last")


@dataclass
class Engine(Settings):
    """How the loop computes what it computes. What is left open is chosen by measuring, once per machine and teacher; where images are made
    while a student learns, by what the device can do, and source.batch_size says how many at a time."""

    flag: ClassVar[str] = "engine"
    ephemeral: ClassVar[tuple[str, ...]] = ("convolutions", "compile", "cuda_graphs", "images_per_batch")

    precision: str = "auto"
    """Of the teacher's forward and backward pass: fp32, tf32 (of a GPU's products and convolutions), bf16, or auto. Images, statistics and
    losses are fp32 always."""
    convolutions: str = "auto"
    """direct: PyTorch's; channels_last: the same, on images whose channels lie side by side; blocks: as matrix products over blocks of
    pixels, with the pooling; or auto."""
    compile: bool | None = None
    """Compile loss and gradient into one kernel sequence (torch.compile); empty: where there is a compiler and it pays."""
    images_per_batch: int | None = None
    """How many images are optimised side by side; empty: what is fastest."""
    cuda_graphs: bool | None = None
    """Record loss and gradient once on a GPU and replay them, without the time to launch each kernel; empty: where it pays."""

    def __post_init__(self) -> None:
        self.require_choice("precision", PRECISIONS)
        self.require_choice("convolutions", CONVOLUTIONS)
        self.require(
            "images_per_batch", self.images_per_batch is None or self.images_per_batch >= 1, "at least 1, or empty"
        )

    def check_in_the_loop(self) -> None:
        """Raise ConfigError for what images that are made while a student learns cannot have."""
        for name in ("compile", "cuda_graphs"):
            self.require(name, not getattr(self, name), "false, or empty, where images are made while a student learns")


@dataclass
class ResolvedEngine(Engine):
    """An engine that leaves nothing open; by default PyTorch as it is, the reference for all others."""

    precision: str = "fp32"
    """fp32, tf32 or bf16."""
    convolutions: str = "direct"
    """direct, channels_last or blocks."""
    compile: bool = False
    """Whether steps are compiled."""
    images_per_batch: int = 1000
    """Images that are made side by side, at most."""
    cuda_graphs: bool = False
    """Whether steps are replayed as CUDA graphs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(Engine):
            self.require(field.name, getattr(self, field.name) not in ("auto", None), "chosen")

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "kind": Engine.__name__}  # whether it was said or measured is all the same


PLAIN = ResolvedEngine()
"""PyTorch as it is."""
