"""Images of which the teacher is as unsure as classes are alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LEAST = 1e-4
"""Concentration of a class that is least like an image's."""


@dataclass
class ClassImpression(Term):
    """Cross-entropy of the teacher's probabilities at a temperature with a soft label, drawn for each image: from a Dirichlet distribution
    whose concentrations are beta times the similarities of the image's class with all classes, the cosines of their weights in the
    teacher's last layer, scaled to reach from 0 to 1.

    Source: Nayak et al. (2019), ZSKD, Sec. 3.1 to 3.3. Differs: which image of a group has which of the betas is drawn.
    """

    of_labels: ClassVar[bool] = True
    of_class_weights: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    betas: list[float] = field(default_factory=lambda: [1.0, 0.1])
    """Each of as many images of a group as the others; small ones make the teacher sure of one class."""
    temperature: float = 20.0
    """By which the logits are divided."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("betas", bool(self.betas) and min(self.betas) > 0, "a list of positive numbers")
        self.require("temperature", self.temperature > 0, "positive")

    def draw(self, labels: Tensor, class_weights: Tensor, generator: torch.Generator) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        directions = normalize(class_weights.double(), dim=1)
        similar = directions @ directions.T
        low, high = similar.amin(1, keepdim=True), similar.amax(1, keepdim=True)
        scaled = (similar - low) / (high - low).clamp_min(1e-12)
        # In an order that is drawn: in turn, classes that take turns too would each have one of them.
        turns = torch.randperm(len(labels), generator=generator) % len(self.betas)
        betas = torch.tensor(self.betas, dtype=torch.float64)[turns]
        # Gamma variables in double precision: in single, those of a small concentration are often all zero.
        drawn = torch._standard_gamma(betas[:, None] * scaled[labels] + LEAST, generator)
        return (drawn / drawn.sum(1, keepdim=True)).float()

    def __call__(self, candidates: Candidates) -> Tensor:
        assert candidates.drawn is not None
        return -(candidates.drawn * (candidates.logits / self.temperature).log_softmax(1)).sum(1)
