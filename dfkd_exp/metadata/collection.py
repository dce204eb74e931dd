"""Collecting Gaussian metadata: one streaming pass that merges, in memory that does not grow with the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.covariance import Diagonal, Full, LayerGaussian, LowRank, low_rank_factor, pack_symmetric
from dfkd_exp.metadata.gaussian import GaussianMetadata
from dfkd_exp.metadata.settings import Gaussian
from dfkd_exp.models.recording import Layer, find_layers, frozen, recording, weights_digest
from dfkd_exp.seeding import derive_seed

OVERSAMPLING = 16
"""Columns of the sketch beyond the rank; Tropp et al. (2017) find that a few make the error close to the best."""


class ClassMoments:
    """Running count, mean ``[U]`` and sum of centred squares of one class and layer.

    Source: Chan, Golub and LeVeque (1979), the pairwise update: exact, and merging two halves gives what one pass gives.
    ``products``: ``[U]`` squares, and either the ``[U, U]`` scatter or its product with a test matrix, ``[U, P]``.
    """

    def __init__(self, num_units: int, form: str, test_matrix: Tensor | None):
        self.form, self.test_matrix = form, test_matrix
        self.count = 0
        self.mean = torch.zeros(num_units, dtype=torch.float64)
        self.squares = torch.zeros(num_units, dtype=torch.float64)
        columns = {"full": num_units, "diagonal": 0}.get(form, 0 if test_matrix is None else test_matrix.shape[1])
        self.products = torch.zeros(num_units, columns, dtype=torch.float64)

    def update(self, values: Tensor) -> None:
        """Add activations ``values[N, U]``."""
        other = ClassMoments.__new__(ClassMoments)
        other.form, other.test_matrix, other.count = self.form, self.test_matrix, len(values)
        mean = values.mean(0)
        centred = values - mean
        other.mean, other.squares = mean.cpu().double(), centred.square().sum(0).cpu().double()
        if self.form == "full":
            other.products = (centred.T @ centred).cpu().double()
        elif self.form == "low_rank" and self.test_matrix is not None:
            other.products = (centred.T @ (centred @ self.test_matrix.to(centred))).cpu().double()
        else:
            other.products = self.products[:, :0]
        self.merge(other)

    def merge(self, other: ClassMoments) -> None:
        """Add another's images."""
        total = self.count + other.count
        if total == 0:
            return
        delta = other.mean - self.mean
        weight = self.count * other.count / total
        self.squares += other.squares + weight * delta.square()
        if self.form == "full":
            self.products.addr_(delta, delta, alpha=weight).add_(other.products)
        elif self.form == "low_rank" and self.test_matrix is not None:
            self.products.addr_(delta, delta @ self.test_matrix.double(), alpha=weight).add_(other.products)
        self.mean += delta * (other.count / total)
        self.count = total


class GaussianCollector:
    """One pass over ``(images, labels)`` batches; memory does not depend on the number of images."""

    def __init__(self, kind: Gaussian, teacher: nn.Module, inputs: InputSpec):
        self.kind, self.inputs, self.teacher_sha256 = kind, inputs, weights_digest(teacher)
        self.teacher = frozen(teacher)
        device = next((p.device for p in teacher.parameters()), torch.device("cpu"))
        example = inputs.from_pixels(torch.full((2, *inputs.shape), 0.5)).to(device)
        self.layers = find_layers(teacher, example, kind.layers)
        with torch.no_grad():
            self.num_classes = teacher(example).shape[1]
        self.moments = [[self._empty(layer) for _ in range(self.num_classes)] for layer in self.layers]

    def _empty(self, layer: Layer) -> ClassMoments:
        form = self.kind.form_for(layer.num_units, is_top=layer is self.layers[-1])
        return ClassMoments(layer.num_units, form, self._test_matrix(layer) if form == "low_rank" else None)

    def _test_matrix(self, layer: Layer) -> Tensor:
        """Gaussian, and the same for every collector of this layer, so that sketches merge."""
        generator = torch.Generator().manual_seed(derive_seed("sketch", layer.name, layer.num_units))
        columns = min(self.kind.rank + OVERSAMPLING, layer.num_units)
        return torch.randn(layer.num_units, columns, generator=generator)

    @torch.no_grad()
    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add a batch: ``images[N, C, H, W]`` as the teacher takes them, ``labels[N]``."""
        unknown = labels[(labels < 0) | (labels >= self.num_classes)]
        if len(unknown):
            raise DfkdError(f"labels must be 0 to {self.num_classes - 1}, the teacher's classes; got {int(unknown[0])}")
        with recording(self.teacher, [layer.name for layer in self.layers]) as recorder:
            recorded = [output.flatten(1).float() for output in recorder(images)]
        recorded[-1] = recorded[-1] / self.kind.temperature
        for label in labels.unique().tolist():
            rows = (labels == label).nonzero().squeeze(1)
            for moments, values in zip(self.moments, recorded, strict=True):
                moments[label].update(values if len(rows) == len(values) else values[rows.to(values.device)])

    def merge(self, other: GaussianCollector) -> None:
        """Add what another collector of the same teacher and kind has seen. Raises DfkdError if it is of another."""
        if (self.kind, self.layers, self.teacher_sha256) != (other.kind, other.layers, other.teacher_sha256):
            raise DfkdError("only collections of one teacher's same layers, for one kind of metadata, can be merged")
        for mine, theirs in zip(self.moments, other.moments, strict=True):
            for one, two in zip(mine, theirs, strict=True):
                one.merge(two)

    def finish(self) -> GaussianMetadata:
        """The metadata. Raises DfkdError if a class has no images or a statistic is not finite."""
        counts = [moments.count for moments in self.moments[0]]
        empty = [label for label, count in enumerate(counts) if count == 0]
        if empty:
            raise DfkdError(
                f"class {empty[0]} has no images, so it has no statistics; remove it from the data and the teacher"
            )
        metadata = GaussianMetadata(
            layers=self.layers,
            statistics=[self._statistics(moments) for moments in self.moments],
            temperature=self.kind.temperature,
            counts=counts,
            inputs=self.inputs,
            teacher_sha256=self.teacher_sha256,
            kind={"name": type(self.kind).__name__, **asdict(self.kind)},
        )
        metadata.check_finite("metadata")
        return metadata

    def _statistics(self, classes: list[ClassMoments]) -> LayerGaussian:
        """Unbiased estimates (divided by n - 1), K classes stacked."""
        mean = torch.stack([m.mean.float() for m in classes])
        scale = [1 / max(m.count - 1, 1) for m in classes]
        variance = torch.stack([(m.squares * s).float() for m, s in zip(classes, scale, strict=True)])
        form = classes[0].form
        if form == "diagonal":
            return Diagonal(mean, variance)
        if form == "full":
            packed = [pack_symmetric(m.products * s).float() for m, s in zip(classes, scale, strict=True)]
            return Full(mean, torch.stack(packed))
        factors = []
        for m, s in zip(classes, scale, strict=True):
            assert m.test_matrix is not None
            factors.append(low_rank_factor(m.products * s, m.test_matrix, self.kind.rank))
        factor = torch.stack(factors)
        return LowRank(mean, factor, (variance - factor.square().sum(2)).clamp_min(0))


def observed_inputs(batches: Iterable[tuple[Tensor, Tensor]]) -> InputSpec:
    """Shape and per-channel range of the images in ``batches``."""
    images = [images for images, _ in batches]
    if not images:
        raise DfkdError("there are no batches to collect metadata from")
    low = torch.stack([x.amin((0, 2, 3)) for x in images]).amin(0)
    high = torch.stack([x.amax((0, 2, 3)) for x in images]).amax(0)
    channels, height, width = images[0].shape[1:]
    return InputSpec((channels, height, width), tuple(low.tolist()), tuple(high.tolist()))
