"""Images whose features point where the teacher's last layer looks for their class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.reconstruction.terms.term import Candidates, Term

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class FeatureDistance(Term):
    """One minus the cosine of the angle between an image's features, which the teacher's last layer takes in, and that layer's weights for
    the image's class: from 0, where they point the same way, to 2.

    Source: Nayak et al. (2019), ZSKD, who take the last layer's weights of a class for its template, and compare classes by the cosines of
    theirs. Differs: the template is compared with the features of images.
    """

    of_labels: ClassVar[bool] = True
    of_features: ClassVar[bool] = True
    of_class_weights: ClassVar[bool] = True

    def __call__(self, candidates: Candidates) -> Tensor:
        from torch.nn.functional import cosine_similarity

        assert candidates.features is not None
        assert candidates.class_weights is not None
        return 1 - cosine_similarity(candidates.features, candidates.class_weights[candidates.labels])
