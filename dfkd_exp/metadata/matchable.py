"""A statistic in its teacher's presence, in values of the layers: ready to be matched, drawn from and attacked, and not to be saved."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd_exp.metadata.directions import whitening
from dfkd_exp.models.layers import Layer
from dfkd_exp.models.view import View

FEW_PRODUCTS = 16
"""A product of matrices forms so many numbers while one is picked out."""


class Distribution(ABC):
    """Values ``[F]`` for each of R rows, one row per class or a single one for all: their ``mean[R, F]`` and deviation, and draws."""

    mean: Tensor
    rectified: ClassVar[bool] = True
    """Whether the paper compares such draws with activations after a ReLU."""
    summed: ClassVar[bool] = False
    """Whether the paper sums the errors of a layer's units, and does not average them."""
    of_images: ClassVar[bool] = False
    """Whether draws are of single images, which other statistics may have too."""

    @abstractmethod
    def std(self) -> Tensor:
        """Standard deviations ``[R, F]``."""

    @abstractmethod
    def sample(self, row: int, count: int, generator: torch.Generator) -> Tensor:
        """``count`` draws of one row: ``[count, F]``."""

    def kept(self) -> Tensor | None:
        """All of it as one tensor, for who wants to keep what took minutes to compute; None where it did not, or is more than that."""
        return None

    def leading(self, row: int, part: slice, count: int) -> tuple[Tensor, Tensor]:
        """The ``count`` largest eigenvalues ``[D]`` of one row's covariance within a ``part`` of its values, descending, and eigenvectors
        ``[D, F]``; float64, on the CPU; empty where nothing is known of covariances."""
        return torch.empty(0), torch.empty(0)

    def misfits(self, values: Tensor, row: int) -> Tensor:
        """How badly each of ``values[N, M, F]``, M values per image, fits each of its alternatives, ``[N, A]``: minus the log-likelihood
        per value, values taken as independent; of distributions that are of single images, A > 1, each is an alternative.

        An attack that asks whether an image was among those that were summarised uses this and nothing else.
        """
        mean, variance = self.mean[row].to(values), self.std()[row].to(values).square()
        variance = variance + 1e-3 * variance.mean() + 1e-12
        return (((values - mean).square() / variance + variance.log()) / 2).mean((1, 2))[:, None]

    def covariances(self, row: int, one: Tensor, other: Tensor) -> Tensor | None:
        """Covariances ``[P]`` of the values ``one[P]`` with the values ``other[P]``, by index, in one row, float64; None where those of
        different values are not known."""
        return None

    def sums(self, most: int) -> list[Tensor]:
        """Of what sums over images were published, in one or two parts: products of two values, by index, ``[2, P]``, where F stands for a
        one behind the values, so that what is multiplied with it is a mean. At most so many in all, at random where there are more; no
        part of distributions that are of single images.
        """
        count = self.mean.shape[1]
        values, generator = torch.arange(count), torch.Generator().manual_seed(0)
        own = torch.cat([torch.stack([values, torch.full_like(values, count)]), torch.stack([values, values])], 1)
        if self.covariances(0, values[:1], values[:1]) is None:
            return [_some_of(own, most, generator)]
        between = _pairs(count, most // 2, generator)
        return [_some_of(own, most // 2, generator), *([between] if between.numel() else [])]

    def shares(self, values: Tensor, products: Tensor) -> Tensor:
        """What each of the images ``values[N, M, F]`` adds to a part of the `sums`, ``products[2, P]``: ``[N, P]``, float32."""
        one, other = products.to(values.device)
        with_one = F.pad(values.float(), (0, 1), value=1.0)
        if values.shape[1] == 1:
            return with_one[:, 0, one].mul_(with_one[:, 0, other])
        if FEW_PRODUCTS * len(one) < with_one.shape[2] ** 2:
            return torch.stack([(image[:, one] * image[:, other]).mean(0) for image in with_one])
        return torch.stack([(image.T @ image)[one, other] for image in with_one]) / values.shape[1]

    def total(self, row: int, products: Tensor) -> Tensor:
        """A part of the `sums` as it was published of one row, ``[P]``, for each image; float64."""
        one, other = products.to(self.mean.device)
        mean = F.pad(self.mean[row].double(), (0, 1), value=1.0)
        found, same, different = mean[one] * mean[other], one == other, (one != other) & (other < self.mean.shape[1])
        found[same] += self.std()[row].double().square()[one[same]]
        between = self.covariances(row, one[different], other[different])
        if between is not None:
            found[different] += between
        return found


def _pairs(count: int, most: int, generator: torch.Generator) -> Tensor:
    """Pairs of different ones of ``count`` values, by index, ``[2, P]``: all of them, or at most so many at random."""
    number = count * (count - 1) // 2
    if number <= most:
        return torch.tril_indices(count, count, -1)
    # More than are wanted, since some come twice.
    chosen = torch.randint(number, (2 * most,), generator=generator).unique()
    chosen = chosen[torch.randperm(len(chosen), generator=generator)[:most]]
    # The k-th pair below the diagonal, row by row, is in the last row of which all before have k pairs at most.
    row = ((1 + (1 + 8 * chosen.double()).sqrt()) / 2).long()
    row = torch.where(row * (row - 1) // 2 > chosen, row - 1, row)
    row = torch.where(row * (row + 1) // 2 <= chosen, row + 1, row)
    return torch.stack([row, chosen - row * (row - 1) // 2])


def _some_of(products: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many of ``products[2, P]``, at random."""
    if products.shape[1] <= most:
        return products
    return products[:, torch.randperm(products.shape[1], generator=generator)[:most]]


@dataclass(frozen=True)
class Matchable:
    """A statistic of some ``layers``, by index, and what they are (``recorded``), ready to be matched: its ``distribution`` is of their
    units or, if there is one, of a ``view`` of a single one. ``published``: whether it is, and not carried by the teacher. It cannot be
    saved."""

    layers: tuple[int, ...]
    recorded: tuple[Layer, ...]
    distribution: Distribution
    view: View | None = None
    scope: str = "class"
    published: bool = True

    @property
    def _parts(self) -> list[slice]:
        """Where the distribution's values are those of each layer."""
        if self.view:
            return [slice(self.view.num_values)]
        ends = [0, *itertools.accumulate(layer.num_units for layer in self.recorded)]
        return [slice(start, end) for start, end in itertools.pairwise(ends)]

    def _rows(self, labels: Tensor) -> Tensor:
        return labels if self.scope == "class" else torch.zeros_like(labels)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        return self.distribution.mean, self.distribution.std()

    def moments(self, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Means and deviations, ``[F]`` each and a pair per layer, of images of classes ``labels[N]`` together."""
        rows, counts = self._rows(labels).unique(return_counts=True)
        mean, std = self._moments
        if len(rows) == 1:
            mean, std = mean[rows[0]], std[rows[0]]
        else:
            shares = (counts / counts.sum()).to(mean)[:, None]
            own_mean, own_std = mean[rows], std[rows]
            mean = (shares * own_mean).sum(0)
            std = (shares * (own_std.square() + (own_mean - mean).square())).sum(0).sqrt()
        return [(mean[part], std[part]) for part in self._parts]

    @property
    def drawable(self) -> bool:
        """Whether it says what single units are."""
        return self.view is None or self.view.pools

    @property
    def kinds(self) -> int:
        """Of what its values are, as many of each, one after the other: such as means within images, and contrasts."""
        return self.view.kinds if self.view else 1

    @cached_property
    def mean_variances(self) -> list[Tensor]:
        """Of each layer, ``[kinds]``: the mean of the variances over rows and values of a kind."""
        variance = self._moments[1].square()
        return [variance[:, part].reshape(len(variance), self.kinds, -1).mean((0, 2)) for part in self._parts]

    def sample(self, labels: Tensor, generator: torch.Generator) -> list[Tensor]:
        """An independent draw for each of N images, of its class, as units of each layer, ``[N, U]``; of regions one for each location.
        Only where it is `drawable`."""
        per_image = self.view.per_image if self.view else 1
        rows, mean = self._rows(labels), self._moments[0]
        draws = mean.new_empty(len(labels), per_image, mean.shape[1])
        for row in rows.unique().tolist():
            own = rows == row
            count = int(own.sum())
            drawn = self.distribution.sample(row, count * per_image, generator)
            draws[own] = drawn.view(count, per_image, -1)
        if self.view:
            return [self.view.spread(draws)]
        return [draws[:, 0, part] for part in self._parts]

    def whitening(self, labels: Tensor, count: int) -> list[Tensor]:
        """Per layer ``W[D, F]``, D at most ``count``: along its rows, the leading eigenvectors of the class's covariance divided by the
        roots of their eigenvalues, the class has the identity for its covariance. D is 0 where nothing is known of covariances within the
        layer, and for images of several classes together."""
        rows = self._rows(labels).unique().tolist()
        found = [self._whitened(count, index)[rows[0]] for index in range(len(self.recorded))]
        return found if len(rows) == 1 else [vectors[:0] for vectors in found]

    def _whitened(self, count: int, index: int) -> Tensor:
        """``[R, D, F]`` of one layer; computed once."""
        if (count, index) not in self._known:
            found = whitening(self.distribution, self._parts[index], count)
            self._known[count, index] = found.to(self._moments[0])
        return self._known[count, index]

    @cached_property
    def _known(self) -> dict[tuple[int, int], Tensor]:
        return {}

    def misfits(self, activations: Sequence[Tensor], label: int) -> Tensor:
        """How badly images of one class fit, ``[N, A]`` (`Distribution.misfits`): ``activations[N, *shape]`` of all recorded layers,
        float64."""
        return self.distribution.misfits(self._gathered(activations), self._row(label))

    def sums(self, most: int) -> list[Tensor]:
        """Of what sums over images were published (`Distribution.sums`)."""
        return self.distribution.sums(most) if self.published else []

    def shares(self, activations: Sequence[Tensor], products: Tensor) -> Tensor:
        """What images add to `total`, ``[N, P]`` (`Distribution.shares`), from the same activations."""
        return self.distribution.shares(self._gathered(activations), products)

    def total(self, label: int, products: Tensor) -> Tensor:
        """What was published of a class's images together, ``[P]`` (`Distribution.total`)."""
        return self.distribution.total(self._row(label), products)

    def _row(self, label: int) -> int:
        return label if self.scope == "class" else 0

    def _gathered(self, activations: Sequence[Tensor]) -> Tensor:
        own = [activations[index] for index in self.layers]
        if self.view:
            [values] = own
            return self.view.gathered(values)
        return torch.cat([values.flatten(1) for values in own], 1)[:, None]
