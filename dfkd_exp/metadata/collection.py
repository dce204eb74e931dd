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


IMAGES_IN_FLOAT32 = 4096
"""So many images are summed in float32 before the sum is added to one in float64."""


class ClassMoments:
    """Count, mean and scatter of one class and layer, summed about a fixed point close to the mean.

    The point is the mean of the first batch, so that nothing cancels, and a batch costs one matrix product: no update of
    the mean, no correction of the scatter. Sums over some thousand images are float32, on the device; beyond, float64.
    Merging is exact: Chan, Golub and LeVeque (1979). ``form``: full keeps the ``[U, U]`` scatter; low_rank its product with
    ``test_matrix[U, P]``; diagonal the squares alone.
    """

    def __init__(self, num_units: int, form: str, test_matrix: Tensor | None):
        self.form, self.test_matrix = form, test_matrix
        self.count = 0
        self._point: Tensor | None = None
        columns = {"full": num_units, "diagonal": 0}.get(form, 0 if test_matrix is None else test_matrix.shape[1])
        self._sums = torch.zeros(num_units, dtype=torch.float64)
        self._squares = torch.zeros(num_units, dtype=torch.float64)
        self._products = torch.zeros(num_units, columns, dtype=torch.float64)
        self._recent: Tensor | None = None
        self._num_recent = 0

    def update(self, values: Tensor) -> None:
        """Add activations ``values[N, U]``."""
        if self._point is None:
            self._point = values.mean(0)
        centred = values - self._point.to(values)
        self.count += len(values)
        self._sums += centred.sum(0).cpu().double()
        self._squares += centred.square().sum(0).cpu().double()
        if self.form == "diagonal":
            return
        right = self._tested(centred)
        if self._recent is None:
            self._recent = centred.new_zeros(self._products.shape)
        self._recent.addmm_(centred.T, right)
        self._num_recent += len(values)
        if self._num_recent >= IMAGES_IN_FLOAT32:
            self._flush()

    def _tested(self, deviations: Tensor) -> Tensor:
        """The right factor of a product of deviations ``[…, U]``: none, themselves, or themselves times the test matrix."""
        if self.form == "diagonal":
            return deviations[..., :0]
        return deviations if self.test_matrix is None else deviations @ self.test_matrix.to(deviations)

    def _flush(self) -> None:
        if self._recent is not None:
            self._products += self._recent.cpu()
            self._recent, self._num_recent = None, 0

    @property
    def mean(self) -> Tensor:
        """``[U]``, float64."""
        point = torch.zeros_like(self._sums) if self._point is None else self._point.cpu().double()
        return point + self._sums / max(self.count, 1)

    @property
    def squares(self) -> Tensor:
        """Sum of squared deviations from the mean, ``[U]``, float64."""
        return (self._squares - self._sums.square() / max(self.count, 1)).clamp_min(0)

    @property
    def products(self) -> Tensor:
        """Scatter about the mean, or its product with the test matrix, float64."""
        self._flush()
        return torch.addr(self._products, self._sums, self._tested(self._sums), alpha=-1 / max(self.count, 1))

    def merge(self, other: ClassMoments) -> None:
        """Add another's images."""
        total = self.count + other.count
        if other.count == 0:
            return
        mean = (self.mean * self.count + other.mean * other.count) / total
        self._flush()
        squares = products = torch.zeros(())
        for part in (self, other):
            delta = part.mean - mean
            squares = squares + part.squares + part.count * delta.square()
            products = products + torch.addr(part.products, delta, self._tested(delta), alpha=part.count)
        self._point, self.count = mean.float(), total
        self._sums = (mean - self._point.double()) * total
        self._squares = squares + self._sums.square() / total
        self._products = torch.addr(products, self._sums, self._tested(self._sums), alpha=1 / total)


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
