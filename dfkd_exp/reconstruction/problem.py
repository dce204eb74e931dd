"""What images are asked for, before anything is said of how fast they are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from dfkd_exp.metadata.metadata import ResolvedMetadata
from dfkd_exp.reconstruction.parametrisation.base import ImageSpace, Parametrisation
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.reconstruction.terms.label import Label
from dfkd_exp.reconstruction.terms.term import Term


@dataclass(frozen=True)
class Problem:
    """A frozen teacher and its metadata, on one device; what is matched, what images are made of, and the terms beside the match."""

    teacher: nn.Module
    metadata: ResolvedMetadata
    settings: Reconstruction
    parametrisation: Parametrisation = field(default_factory=Pixels)
    terms: Sequence[Term] = ()

    @property
    def all_terms(self) -> list[Term]:
        """The terms that were asked for, and where neither they nor the metadata say anything of classes, the label's."""
        said = bool(self.metadata.logits) or any(term.of_labels for term in self.terms)
        return [*self.terms, *([] if said else [Label()])]

    @cached_property
    def space(self) -> ImageSpace:
        """What images are made of, for this teacher; built once, which may take seconds."""
        return self.parametrisation.build(self.teacher, self.metadata)

    @property
    def device(self) -> torch.device:
        return self.metadata.device

    @property
    def num_groups(self) -> int:
        return self.settings.groups_per_class * self.metadata.num_classes
