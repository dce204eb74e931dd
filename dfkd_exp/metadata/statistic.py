"""The contracts of a statistic: what accumulates, what is stored, and what can be matched.

An `Accumulator` sees batches and ends in a `Statistic`, which is what a file holds. Its `Summary` has the numbers. In the teacher's
presence it becomes a `Matchable`, whose numbers are a `Distribution` of the layers' own values: only that can be drawn from and compared
with activations, and only a `Statistic` can be saved.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from dfkd_exp.metadata.bases import Graph
from dfkd_exp.metadata.choices import BASES, SCOPES
from dfkd_exp.metadata.directions import whitening
from dfkd_exp.models.layers import Layer


@dataclass(frozen=True)
class Observed:
    """A batch: the ``signals`` of the recorded layers, ``[N, *shape]`` each, the ``labels[N]`` and the ``images`` as the teacher took
    them."""

    signals: Sequence[Tensor]
    labels: Tensor
    images: Tensor

    @cached_property
    def by_class(self) -> list[tuple[int, Tensor, list[Tensor]]]:
        """Of each class in the batch its label, its rows, and the signals of these."""
        found = []
        for label in self.labels.unique().tolist():
            rows = (self.labels == label).nonzero().squeeze(1).to(self.images.device)
            whole = len(rows) == len(self.labels)
            found.append((label, rows, list(self.signals) if whole else [values[rows] for values in self.signals]))
        return found


class Accumulator(ABC):
    """Sees batches, in memory that does not grow with them; what saw the parts, merged, has seen the whole."""

    @abstractmethod
    def observe(self, batch: Observed) -> None:
        """Add a batch."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add what another one of the same layers has seen."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that it has seen, as tensors by name, for `with_state` in another process."""

    @abstractmethod
    def with_state(self, state: Mapping[str, Tensor]) -> Self:
        """Another one of the same layers that has seen what `state` says."""

    @abstractmethod
    def finish(self, storage: str) -> list[Statistic]:
        """What is kept, with its numbers rounded as ``storage`` will round them."""


class Distribution(ABC):
    """Values ``[F]`` for each of R rows, one row per class or a single one for all: their ``mean[R, F]`` and deviation, and draws."""

    mean: Tensor
    rectified: ClassVar[bool] = True
    """Whether the paper compares such draws with activations after a ReLU."""
    summed: ClassVar[bool] = False
    """Whether the paper sums the errors of a layer's units, and does not average them."""

    @abstractmethod
    def std(self) -> Tensor:
        """Standard deviations ``[R, F]``."""

    @abstractmethod
    def sample(self, row: int, count: int, generator: torch.Generator) -> Tensor:
        """``count`` draws of one row: ``[count, F]``, on the statistics' device, from a CPU generator."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Distribution:
        """The same on another device."""

    def kept(self) -> Tensor | None:
        """All of it as one tensor, for who wants to keep what took minutes to compute; None where it did not, or is more than that."""
        return None

    def leading(self, row: int, part: slice, count: int) -> tuple[Tensor, Tensor]:
        """The ``count`` largest eigenvalues ``[D]`` of one row's covariance within a ``part`` of its values, descending, and eigenvectors
        ``[D, F]``; float64, on the CPU. None where nothing is known of covariances."""
        return torch.empty(0), torch.empty(0)

    def misfits(self, values: Tensor, row: int) -> Tensor:
        """How badly each of ``values[N, M, F]``, M values per image, fits each of its alternatives, ``[N, A]``: minus the log-likelihood
        per value, values taken as independent; of distributions that are of single images, A > 1, each is an alternative.

        An attack that asks whether an image was among those that were summarised uses this and nothing else.
        """
        variance = self.std()[row].double().square()
        variance = variance + 1e-3 * variance.mean() + 1e-12
        return (((values - self.mean[row].double()).square() / variance + variance.log()) / 2).mean((1, 2))[:, None]


class Basis(Protocol):
    """Coefficients for the values of some layers, found again from the teacher, so that it need not be published."""

    def transform(self, signals: Tensor) -> Tensor:
        """Coefficients ``[N, F]`` of ``signals[N, U]``."""

    def inverse(self, coefficients: Tensor) -> Tensor:
        """The signals ``[N, U]`` that ``coefficients[N, F]`` stand for."""


@dataclass(frozen=True)
class TeacherSide:
    """What follows from the teacher for a statistic of some ``layers``: its modules, and the ``basis`` of the graph over them, if there
    is one."""

    teacher: nn.Module
    layers: tuple[Layer, ...]
    basis: Basis | None = None


class Summary(ABC):
    """The numbers that a statistic keeps: tensors with a row for each class, or one for all. ``form`` names it in the file."""

    form: ClassVar[str] = ""
    origin: ClassVar[str] = "data"
    holds: ClassVar[str] = ""
    """What is kept, in a sentence for the release's card."""
    reveals: ClassVar[str] = ""
    """What it may reveal beyond what any statistic does, for the same place; empty: nothing."""
    of_images: ClassVar[bool] = False
    """Whether it is of single images, and not of all that were seen."""
    bases: ClassVar[tuple[str, ...]] = BASES
    """In which bases it can be."""
    scopes: ClassVar[tuple[str, ...]] = SCOPES
    """Of which images it can be."""

    header_fields: ClassVar[tuple[str, ...]] = ()
    """Names of the whole numbers that a reader must know beside the tensors."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name; floating numbers are float32, and whole ones as the file has them."""

    @abstractmethod
    def shapes(self, rows: int, coefficients: int) -> dict[str, list[int]]:
        """The shapes that its tensors must have."""

    @property
    @abstractmethod
    def num_coefficients(self) -> int:
        """How many coefficients it is of."""

    def restored(self, kept: Tensor) -> Distribution | None:
        """The distribution from what `Distribution.kept` gave, without what it takes to compute it; None where nothing is kept."""
        return None

    @abstractmethod
    def distribution(self, side: TeacherSide) -> Distribution:
        """Of the layers' own values, through the basis in which the coefficients are, if they are in one."""

    def header(self) -> dict[str, Any]:
        """What a reader must know beside the tensors."""
        return {name: getattr(self, name) for name in self.header_fields}

    @classmethod
    def from_file(cls, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """That of a file's ``entry``, which has the keys of `header`, and of its ``tensors``. Raises KeyError or TypeError if one lacks."""
        return cls(**tensors, **{name: entry[name] for name in cls.header_fields})

    def check(self, layers: Sequence[Layer]) -> None:
        """Raise ValueError if it cannot be of these layers, or a number is out of its range."""
        return


@dataclass(frozen=True)
class Statistic:
    """What is kept of some ``layers``, by index: a ``summary`` in a ``basis`` (`dfkd_exp.metadata.choices`), of the images of a ``scope``.

    ``graph``: that in whose basis it is.
    """

    layers: tuple[int, ...]
    summary: Summary
    basis: str = "units"
    scope: str = "class"
    graph: Graph | None = None

    def __post_init__(self) -> None:
        if self.scope not in self.summary.scopes or self.basis not in self.summary.bases:
            raise ValueError(f"{self.summary.form} of scope {self.scope!r} in basis {self.basis!r}")

    @property
    def origin(self) -> str:
        """data, or the teacher, who carries it, so that it takes no bytes."""
        return self.summary.origin

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name."""
        return self.summary.tensors()

    def header(self) -> dict[str, Any]:
        """Its entry in the file."""
        return {
            "layers": list(self.layers), "basis": self.basis, "scope": self.scope, "origin": self.origin,
            "summary": self.summary.form, **self.summary.header(),
        }  # fmt: skip

    def title(self, layers: Sequence[Layer]) -> str:
        """Its layers, for people."""
        names = [layers[index].title for index in self.layers]
        return f"layer {names[0]}" if len(names) == 1 else f"layers {names[0]} to {names[-1]}"

    def num_rows(self, num_classes: int) -> int:
        return num_classes if self.scope == "class" else 1

    def matchable(
        self, teacher: nn.Module, layers: Sequence[Layer], basis: Basis | None = None, kept: Tensor | None = None
    ) -> Matchable:
        """In values of its layers, ready to be matched; ``layers``: all that are recorded, ``basis`` where it is in a graph's; ``kept``:
        what was kept of this the last time."""
        own = tuple(layers[index] for index in self.layers)
        found = self.summary.restored(kept) if kept is not None else None
        found = found or self.summary.distribution(TeacherSide(teacher, own, basis))
        return Matchable(self.layers, own, found, self.basis == "channels", self.scope)


@dataclass(frozen=True)
class Matchable:
    """A statistic of some ``layers``, by index, and what they are (``recorded``), ready to be matched: its ``distribution`` is of their
    units or, ``per_channel``, of their channels at any location. It cannot be saved."""

    layers: tuple[int, ...]
    recorded: tuple[Layer, ...]
    distribution: Distribution
    per_channel: bool = False
    scope: str = "class"

    @property
    def _parts(self) -> list[slice]:
        """Where the distribution's values are those of each layer."""
        ends = [0]
        for layer in self.recorded:
            ends.append(ends[-1] + (layer.num_channels if self.per_channel else layer.num_units))
        return [slice(start, end) for start, end in itertools.pairwise(ends)]

    def _rows(self, labels: Tensor) -> Tensor:
        return labels if self.scope == "class" else torch.zeros_like(labels)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        return self.distribution.mean, self.distribution.std()

    def to(self, device: torch.device | str) -> Matchable:
        return replace(self, distribution=self.distribution.to(device))

    def moments(self, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Means and deviations, ``[F]`` each and a pair per layer, of images of classes ``labels[N]`` together."""
        rows, counts = self._rows(labels).unique(return_counts=True)
        mean, std = self._moments
        if len(rows) == 1:
            mean, std = mean[rows[0]], std[rows[0]]
        else:
            shares = (counts / counts.sum()).to(mean)[:, None]
            rows = rows.to(mean.device)
            own_mean, square = mean[rows], std[rows].square() + mean[rows].square()
            mean = (shares * own_mean).sum(0)
            std = ((shares * square).sum(0) - mean.square()).clamp_min(0).sqrt()
        return [(mean[part], std[part]) for part in self._parts]

    def mean_variances(self) -> list[float]:
        """The mean over rows and values of each layer's variances."""
        variance = self._moments[1].square()
        return [float(variance[:, part].mean()) for part in self._parts]

    def sample(self, labels: Tensor, generator: torch.Generator) -> list[Tensor]:
        """An independent draw for each of N images, of its class, as units of each layer, ``[N, U]``; per channel one for each location."""
        per_image = self.recorded[0].num_units // self.recorded[0].num_channels if self.per_channel else 1
        rows, mean = self._rows(labels), self._moments[0]
        draws = mean.new_empty(len(labels), per_image, mean.shape[1])
        for row in rows.unique().tolist():
            own = rows == row
            count = int(own.sum())
            drawn = self.distribution.sample(row, count * per_image, generator)
            draws[own.to(draws.device)] = drawn.view(count, per_image, -1)
        if not self.per_channel:
            return [draws[:, 0, part] for part in self._parts]
        [layer] = self.recorded
        return [layer.in_units(draws)]

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
        row = label if self.scope == "class" else 0
        own = [activations[index] for index in self.layers]
        if self.per_channel:
            [layer], [values] = self.recorded, own
            return self.distribution.misfits(layer.by_channel(values), row)
        return self.distribution.misfits(torch.cat([values.flatten(1) for values in own], 1)[:, None], row)
