"""Collecting metadata: one streaming pass that merges, in memory that does not grow with the images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dfkd_exp.data.labelled import class_numbers
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.metadata import Metadata, as_signals
from dfkd_exp.metadata.reservoir import image_hash
from dfkd_exp.metadata.statistic import Observed, joined, parted
from dfkd_exp.models.float32 import exact
from dfkd_exp.models.layers import Site
from dfkd_exp.models.recording import Recorder, borrowed, device_of, overwritten, recording, weights_digest

if TYPE_CHECKING:
    from dfkd_exp.metadata.kind import MetadataKind

VALUES_AT_ONCE = 2**24
"""Numbers that the recorded layers put out for the images that go through the teacher together on a CPU: 64 MiB,"""
FEWEST_AT_ONCE = 8
"""but of at least so many images."""


class Collector:
    """One pass over ``(images, labels)`` batches; memory does not depend on the number of images."""

    def __init__(self, kind: MetadataKind, teacher: nn.Module, inputs: InputSpec):
        self.kind, self.inputs, self.teacher_sha256 = kind, inputs, weights_digest(teacher)
        self.teacher = teacher
        example = inputs.example().to(device_of(teacher))
        with borrowed(teacher):
            self.layers = kind.recorded(teacher, example)
            kind.check_layers(teacher, self.layers, inputs)
            with torch.no_grad():
                logits = teacher(example)
            if not isinstance(logits, Tensor) or logits.dim() != 2:
                raise DfkdError("the teacher returns no logits [N, K]; dfkd_exp.take_output says which entry they are")
            self.num_classes = logits.shape[1]
            self.accumulators = kind.accumulators(teacher, self.layers, inputs, self.num_classes)
        self._overwritten: set[Site] | None = None
        self.counts = torch.zeros(self.num_classes, dtype=torch.long)
        """Images of each class that were seen."""

    @torch.no_grad()
    @exact()
    def update(self, images: Tensor, labels: Tensor, pixels: Tensor | None = None) -> None:
        """Add a batch: ``images[N, *shape]`` as the teacher takes them, on any device, ``labels[N]``.

        ``pixels``: of the images, on the CPU. By them those are chosen whose activations are recorded; a GPU's inputs may differ from a
        CPU's in the last bit, and then nobody could say later which images were chosen. Left out, the ``images`` have to do.
        """
        labels = class_numbers(labels, self.num_classes)
        self.counts += labels.bincount(minlength=self.num_classes)
        images = images.to(device_of(self.teacher))
        order = labels.argsort(
            stable=True
        )  # the classes' values are then views, and nothing is picked out of large tensors
        with borrowed(self.teacher):
            if self._overwritten is None:
                self._overwritten = overwritten(self.teacher, self.layers, images[:2])
            with recording(self.teacher, self.layers, self._overwritten) as recorder:
                for rows in order.split(self._images_at_once(images)):
                    taken = None if pixels is None else pixels[rows]
                    self._observe(recorder, images[rows.to(images.device)], labels[rows], taken)

    def _images_at_once(self, images: Tensor) -> int:
        """On a CPU so many that its caches hold most of the layers' values, and their memory is used again; elsewhere all."""
        units = sum(layer.num_units for layer in self.layers)
        return max(1, len(images)) if images.is_cuda else max(FEWEST_AT_ONCE, VALUES_AT_ONCE // units)

    def _observe(self, recorder: Recorder, images: Tensor, labels: Tensor, pixels: Tensor | None) -> None:
        recorded = [output.float() for output in recorder(images)]
        batch = Observed(
            as_signals(recorded, self.layers, self.num_classes, self.kind.signal, self.kind.temperature),
            labels,
            hashes=lambda: image_hash(images.cpu() if pixels is None else self.inputs.from_pixels(pixels)),
        )
        for accumulator in self.accumulators:
            accumulator.observe(batch)

    def merge(self, other: Collector) -> None:
        """Add what another collector of the same teacher and kind has seen. Raises DfkdError if it is of another."""
        if (self.kind, self.layers, self.teacher_sha256) != (other.kind, other.layers, other.teacher_sha256):
            raise DfkdError("only collections of one teacher's same layers, for one kind of metadata, can be merged")
        self.counts += other.counts
        for mine, theirs in zip(self.accumulators, other.accumulators, strict=True):
            mine.merge(theirs)

    def state(self) -> dict[str, Tensor]:
        """What it has seen, as tensors by name, for `merge_state` in another process."""
        parts = {index: accumulator.state() for index, accumulator in enumerate(self.accumulators)}
        return {"counts": self.counts, **joined(parts)}

    def merge_state(self, state: dict[str, Tensor]) -> None:
        """Add what the `state` of another collector of the same teacher and kind has seen."""
        self.counts += state["counts"]
        parts = parted(state)
        for index, accumulator in enumerate(self.accumulators):
            accumulator.merge(accumulator.with_state(parts[str(index)]))

    def finish(self) -> Metadata:
        """The metadata. Raises DfkdError if a class has no images or a statistic is not finite."""
        counts = self.counts.tolist() if self.kind.needs_images else None
        if counts is not None and 0 in counts:
            raise DfkdError(
                f"class {counts.index(0)} has no images, so it has no statistics; remove it from the data and the teacher"
            )
        if counts is not None:
            self.kind.check_images(sum(counts))
        metadata = Metadata(
            layers=self.layers,
            statistics=[kept for accumulator in self.accumulators for kept in accumulator.finish(self.kind.storage)],
            temperature=self.kind.temperature,
            num_classes=self.num_classes,
            counts=counts,
            inputs=self.inputs,
            teacher_sha256=self.teacher_sha256,
            kind={"name": type(self.kind).__name__, **self.kind.described(), **self.kind.claims(self.layers)},
            signal=self.kind.signal,
            storage=self.kind.storage,
            dropout_masks=self.kind.dropout_masks,
        )
        metadata.check_finite("metadata")
        return metadata


def observed_inputs(batches: Iterable[tuple[Tensor, Tensor]]) -> InputSpec:
    """Shape and per-channel range of the images in ``batches``. Raises DfkdError if there are none, or they are no floating numbers."""
    images = [images for images, _ in batches]
    if not images:
        raise DfkdError("there are no batches to collect metadata from")
    return InputSpec.observed(images)
