"""What a teacher that was not trained here answers, beside what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from dfkd_exp import console

NEAR_CHANCE = 1.5
"""Up to so many times the accuracy of guessing, a teacher is taken for one that was loaded wrongly."""
FAR_BELOW = 0.05
"""So far below what is said of it, beyond what chance does to so few images."""


@dataclass(frozen=True)
class Claim:
    """The accuracy that a teacher is said to have; ``by``: what says so; ``num_images``: of how many test images ours is, if few."""

    by: str
    accuracy: float
    num_images: int | None = None

    def far_above(self, found: float) -> bool:
        deviation = sqrt(self.accuracy * (1 - self.accuracy) / self.num_images) if self.num_images else 0.0
        return found < self.accuracy - FAR_BELOW - 2 * deviation


def tell_accuracy(title: str, found: float, num_classes: int, claim: Claim | None) -> None:
    """Of a teacher called ``title``: how many of the test images it answers rightly, and a warning where that is near chance, or far below
    what is claimed."""
    said = f"; {claim.by} says {claim.accuracy:.2%}" if claim else ""
    console.note(f"{found:.2%} of the test images are answered rightly{said}")
    chance, wrong = 1 / num_classes, ""
    if found < chance / NEAR_CHANCE:
        wrong = f"which is below chance ({chance:.2%}), as where classes are mistaken for one another"
    elif found < chance * NEAR_CHANCE:
        wrong = "which is near chance"
    elif claim and claim.far_above(found):
        wrong = f"where {claim.by} says {claim.accuracy:.2%}"
    if wrong:
        console.warn(
            f"{title} answers {found:.2%} of the test images rightly, {wrong}. The usual causes: classes in another order than the data's, "
            "images normalised otherwise (data.mean, data.std), in other channels or of another size (data.channels, data.size, data.pad)"
        )
