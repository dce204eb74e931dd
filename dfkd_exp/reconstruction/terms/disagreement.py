"""Images about which teacher and student disagree: what the student has yet to learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor

DISTANCES = ("kl", "l1", "js")


@dataclass
class Disagreement(Term):
    """The negative distance between the teacher's answer and the student's.

    Source: ``kl``: Micaelli and Storkey (2019), ZSKT, and Fang et al. (2021), CMI; ``l1``, of the logits: Fang et al. (2019), DFAD; ``js``:
    Yin et al. (2020), eq. 6, adaptive DeepInversion, there 1 minus it.
    """

    instead_of_labels: ClassVar[bool] = True
    of_student: ClassVar[bool] = True

    distance: str = "kl"
    """kl: of the probabilities, from the teacher's to the student's; js: Jensen and Shannon's of them; l1: mean over the logits."""
    temperature: float = 1.0
    """By which the logits are divided, for kl and js."""
    agreed_only: bool = False
    """Only where both choose the same class, so that images stay what the teacher knows (CMI, Fast)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("distance", DISTANCES)
        self.require("temperature", self.temperature > 0, "positive")

    def __call__(self, candidates: Candidates) -> Tensor:
        teacher, student = candidates.logits, candidates.student_logits
        assert student is not None
        if self.distance == "l1":
            distance = (teacher - student).abs().mean(1)
        else:
            both = [(logits / self.temperature).log_softmax(1) for logits in (teacher, student)]
            if self.distance == "kl":
                distance = _divergence(*both)
            else:
                middle = both[0].logaddexp(both[1]) - math.log(2)
                distance = (_divergence(both[0], middle) + _divergence(both[1], middle)) / 2
        if self.agreed_only:
            distance = distance * (teacher.argmax(1) == student.argmax(1))
        return -distance


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Kullback and Leibler's, from p to q, of rows of log-probabilities, in nats."""
    return (log_p.exp() * (log_p - log_q)).sum(1)
