"""What images are asked for, before anything is said of how fast they are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from dfkd_exp.metadata.metadata import ResolvedMetadata
from dfkd_exp.models.recording import device_of
from dfkd_exp.reconstruction.engine.settings import ResolvedEngine
from dfkd_exp.reconstruction.inside import suited
from dfkd_exp.reconstruction.parametrisation.base import ImageSpace, Parametrisation
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.reconstruction.terms.label import Label
from dfkd_exp.reconstruction.terms.term import Term


def shared_turns(counts: Sequence[int], total: int) -> Tensor:
    """``total`` turns, each the number of a class, spread evenly: classes have as many as their share of all ``counts``, by largest
    remainders, and at least one."""
    wanted = torch.tensor(counts, dtype=torch.float64) * (total / sum(counts))
    turns = wanted.floor().clamp_min(1).long()
    while (missing := total - int(turns.sum())) != 0:
        step = 1 if missing > 0 else -1
        gain = (wanted - turns) * step
        gain[turns + step < 1] = -torch.inf
        turns[gain.argmax()] += step
    classes = torch.arange(len(counts)).repeat_interleave(turns)
    of_class = torch.cat([(torch.arange(int(count)) + 0.5) / count for count in turns])
    return classes[torch.argsort(of_class, stable=True)]


@dataclass(frozen=True)
class Problem:
    """A frozen teacher, on the device that makes the images, and its metadata, on the CPU, where targets are drawn: the same ones whatever
    the device. What is matched, what images are made of, and the terms beside the match."""

    teacher: nn.Module
    metadata: ResolvedMetadata
    settings: Reconstruction
    parametrisation: Parametrisation = field(default_factory=Pixels)
    terms: Sequence[Term] = ()
    most_at_once: int | None = None
    """At most so many groups are made side by side: where the optimiser couples images one, and of several processes each has a share."""

    @property
    def all_terms(self) -> list[Term]:
        """The terms that were asked for and are suited to the teacher, and where neither they nor the metadata say what images are of,
        the label's."""
        terms = suited(self.terms, self.teacher, published=bool(self.metadata.statistics))
        said = bool(self.metadata.logits) or any(term.of_labels or term.instead_of_labels for term in terms)
        return [*terms, *([] if said else [Label()])]

    @property
    def of_classes(self) -> bool:
        """Whether images are made for their classes."""
        return bool(self.metadata.logits) or any(term.of_labels for term in self.all_terms)

    @cached_property
    def space(self) -> ImageSpace:
        """What images are made of, for this teacher; built once, which may take seconds."""
        return self.parametrisation.build(self.teacher, self.metadata)

    @property
    def device(self) -> torch.device:
        return device_of(self.teacher)

    @property
    def num_groups(self) -> int:
        return self.settings.groups_per_class * self.metadata.num_classes

    @cached_property
    def turns(self) -> Tensor | None:
        """Whose turn it is, group by group or, where groups mix classes, image by image; None if all classes take turns."""
        counts = self.metadata.counts
        self.settings.check_counts(counts, "this metadata")
        if self.settings.balance == "equal" or counts is None:
            return None
        each = self.settings.group_size if self.metadata.mixes_classes else 1
        return shared_turns(counts, self.num_groups * each)

    def groups_at_once(self, images_per_batch: int) -> int:
        """How many groups make a batch of at most so many images, or one: so that the batches are equal where a third more of them can be,
        and nearly so otherwise. What is compiled, or was measured, is for one size."""
        largest = min(
            self.num_groups, self.most_at_once or self.num_groups, images_per_batch // self.settings.group_size
        )
        fewest = -(-self.num_groups // max(1, largest))
        equal = (number for number in range(fewest, fewest + fewest // 3 + 1) if self.num_groups % number == 0)
        return -(-self.num_groups // next(equal, fewest))

    def fitted(self, engine: ResolvedEngine) -> ResolvedEngine:
        """The engine with as many images per batch as a batch will have."""
        images = self.groups_at_once(engine.images_per_batch) * self.settings.group_size
        return replace(engine, images_per_batch=images)

    def too_large(self, num_groups: int) -> str:
        """What is to be done where a GPU's memory does not suffice for so many groups side by side."""
        images = num_groups * self.settings.group_size
        mend = f"engine.images_per_batch={images // 2}" if num_groups > 1 else "a smaller reconstruction.group_size"
        return f"the GPU's memory does not suffice for {images:,} images at a time; set {mend}"

    def batches(self, images_per_batch: int) -> list[list[int]]:
        """All group indices, in batches of at most so many images, or of one group."""
        size = self.groups_at_once(images_per_batch)
        return [list(range(start, min(start + size, self.num_groups))) for start in range(0, self.num_groups, size)]
