"""The contract of an objective term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.inputs import Shape
from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dfkd_exp.reconstruction.learner import Learner


NOT_AMONG_TERMS = (
    "settings of a term that is not among the chosen ones; add it to terms=[…], or leave terms=[…] out and take terms away from a method "
    "by ~terms.NAME"
)


@dataclass(frozen=True)
class AtBatchNorm:
    """What a BatchNorm of the teacher takes in for the images, ``values[M, C, …]``, and the ``mean[C]`` and ``variance[C]`` that it has
    from its training."""

    values: Tensor
    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Candidates:
    """Images on their way: their ``pixels[M, *shape]`` in [0, 1], the teacher's ``logits[M, K]`` for them, not divided by anything, and
    the classes ``labels[M]`` that they are made for; M images, those of a group side by side.

    What only some terms look at is there where one of them does (`Term`): the ``features[M, F]`` that the teacher's last layer takes in,
    that layer's ``class_weights[K, F]``, its BatchNorm layers, the ``student_logits[M, K]``, what a term has ``drawn[M, …]`` for the
    images; and ``features_of`` other pixels, by another pass through the teacher.
    """

    pixels: Tensor
    logits: Tensor
    labels: Tensor
    num_groups: int = 1
    features: Tensor | None = None
    batch_norms: Sequence[AtBatchNorm] = ()
    student_logits: Tensor | None = None
    drawn: Tensor | None = None
    class_weights: Tensor | None = None
    features_of: Callable[[Tensor], Tensor] | None = None

    def by_group(self, values: Tensor) -> Tensor:
        """``[M, …]`` as ``[G, N, …]``: of each group its images."""
        return values.unflatten(0, (self.num_groups, -1))


@dataclass
class Term(Settings):
    """A term of the objective, added to each group's loss with its weight."""

    flag: ClassVar[str] = "terms"
    of_labels: ClassVar[bool] = False
    """Whether it makes images for their classes."""
    instead_of_labels: ClassVar[bool] = False
    """Whether it says enough of what images are to be, so that they need not be made for classes."""
    of_groups: ClassVar[bool] = False
    """Whether it is of the images of a group together, and not of each: of all classes, so that where groups are of single ones and a batch
    of them is made together, for a student in the loop, all the batch is one group to it."""
    of_features: ClassVar[bool] = False
    """Whether it looks at the features."""
    of_class_weights: ClassVar[bool] = False
    """Whether it looks at the last layer's weights of each class, or draws by them."""
    of_batch_norms: ClassVar[bool] = False
    """Whether it looks at the BatchNorm layers."""
    of_student: ClassVar[bool] = False
    """Whether it looks at the student, who must then be in the loop."""
    draws: ClassVar[bool] = False
    """Whether it draws something for each image, before the first step."""

    learns: ClassVar[bool] = False
    """Whether it learns, or remembers images: `start` then gives what is called in its place, batch after batch."""

    weight: float = 1.0
    """Weight of the term in the loss of a group."""

    def __post_init__(self) -> None:
        if type(self) is Term:  # a method's or somebody's settings of a term that terms=[…] leaves out
            raise ConfigError(f"{self.flag}: {NOT_AMONG_TERMS}")
        self.require("weight", self.weight >= 0, "at least 0")

    def draw(self, labels: Tensor, class_weights: Tensor, generator: torch.Generator) -> Tensor:
        """What is drawn for a group's images, ``[N, …]``, of classes ``labels[N]``, if the term `draws`: by the ``class_weights[K, F]`` of
        the teacher's last layer, which are empty unless it is `of_class_weights`. All is on the CPU, and depends on nothing but these."""
        raise NotImplementedError

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term for each image, ``[M]``, of which a group's is the mean; or, if it is `of_groups`, for each group, ``[G]``."""
        raise NotImplementedError

    def start(self, shape: Shape, num_features: int, seed: int) -> Learner:
        """Of a term that `learns`: what it begins a run with, for images of ``shape``. ``num_features``: 0 unless it is `of_features`."""
        raise NotImplementedError


def check_independent(terms: Sequence[Term]) -> None:
    """Raise DfkdError for a term of images that cannot be made in groups which depend on nothing else, before there is a student."""
    for term in terms:
        if term.of_student:
            raise DfkdError(
                f"{term.flag}: {type(term).__name__} looks at the student, and with this source images are made before there is one; "
                "choose source=synthesis"
            )
        if term.learns:
            raise DfkdError(
                f"{term.flag}: {type(term).__name__} learns from batch to batch, and with this source images are made in groups that know "
                "nothing of each other; choose source=synthesis"
            )
