"""Series made by a formula: five kinds of waves, with noise. No download, no file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfkd_exp.data.array_data import ArrayData, Arrays

if TYPE_CHECKING:
    import numpy as np

KINDS = ("sine", "square", "sawtooth", "chirp", "burst")
LENGTH, TRAIN, TEST = 128, 200, 100
"""Values of a series; training and test series of each kind."""
NOISE = 0.15


@dataclass
class Waves(ArrayData):
    """1,000 training and 500 test series of 128 values in one channel: 2 to 3 periods of a wave, of random phase within a fifth of a period
    and of random height, and noise; drawn with a seed of their own."""

    range: list[float] = field(default_factory=lambda: [-1.5, 1.5])
    """Least and largest value."""

    def find(self) -> Arrays:
        import numpy as np

        drawn = np.random.default_rng(0)
        labels = {"train": np.repeat(np.arange(len(KINDS)), TRAIN), "test": np.repeat(np.arange(len(KINDS)), TEST)}
        inputs = {part: series(own, drawn)[:, None] for part, own in labels.items()}
        return Arrays(inputs, labels, [*KINDS], [], [])


def series(labels: np.ndarray, drawn: np.random.Generator) -> np.ndarray:
    """A series ``[N, LENGTH]``, float32, of each of the kinds ``labels[N]``."""
    import numpy as np

    time = np.linspace(0, 1, LENGTH)
    periods, phase, height = (
        drawn.uniform(low, high, (len(labels), 1)) for low, high in ((2, 3), (-0.1, 0.1), (0.6, 1.0))
    )
    turns = periods * time + phase
    kinds = (
        np.sin(2 * np.pi * turns),
        np.sign(np.sin(2 * np.pi * turns)),
        2 * (turns % 1) - 1,
        np.sin(2 * np.pi * (turns * (1 + 2 * time))),
        np.sin(4 * np.pi * turns) * np.exp(-(((time - 0.5 - phase) / 0.15) ** 2)),
    )
    clean = height * np.choose(labels[:, None], kinds)
    return (clean + NOISE * drawn.standard_normal(clean.shape)).clip(-1.5, 1.5).astype(np.float32)
