"""The contracts of a statistic: what accumulates and what is stored; what can be matched is in `dfkd_exp.metadata.matchable`.

An `Accumulator` sees batches and ends in a `Statistic`, which is what a file holds. Its `Summary` has the numbers. In the teacher's
presence it becomes a `Matchable`, whose numbers are a `Distribution` of the layers' own values: only that can be drawn from and compared
with activations, and only a `Statistic` can be saved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from dfkd_exp.metadata.bases import Graph
from dfkd_exp.metadata.choices import SCOPES
from dfkd_exp.metadata.matchable import Distribution, Matchable
from dfkd_exp.models.layers import Layer
from dfkd_exp.models.regions import Regions
from dfkd_exp.models.spectrum import Spectrum
from dfkd_exp.models.styles import Styles
from dfkd_exp.models.view import View


@dataclass(frozen=True)
class Observed:
    """A batch: the ``signals`` of the recorded layers, ``[N, *shape]`` each, and the ``labels[N]``, in ascending order; ``hashes()`` are
    `image_hash` of the images, the same on every device."""

    signals: Sequence[Tensor]
    labels: Tensor
    hashes: Callable[[], Tensor]

    @cached_property
    def by_class(self) -> list[tuple[int, slice, list[Tensor]]]:
        """Of each class in the batch its label, its rows, and the signals of these, which are views."""
        found, start = [], 0
        labels, counts = self.labels.unique_consecutive(return_counts=True)
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
            rows = slice(start, start := start + count)
            found.append((label, rows, [values[rows] for values in self.signals]))
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


State = Mapping[str, Tensor]
"""What an accumulator, or a part of one, has seen: tensors by name."""


def joined(parts: Mapping[Any, State]) -> dict[str, Tensor]:
    """The states of several ``parts`` as one."""
    return {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}


def parted(state: State) -> dict[str, dict[str, Tensor]]:
    """What `joined` was given; of a part that had seen nothing, an empty state."""
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for path, tensor in state.items():
        part, _, name = path.partition("/")
        parts[part][name] = tensor
    return parts


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
    """data, or the teacher, who carries it, so that it takes no bytes."""
    holds: ClassVar[str] = ""
    """What is kept, in a sentence for the release's card."""
    reveals: ClassVar[str] = ""
    """What it may reveal beyond what any statistic does, for the same place; empty: nothing."""
    bases: ClassVar[tuple[str, ...]] = ("units", "channels", "graph")
    """In which bases it can be."""
    scopes: ClassVar[tuple[str, ...]] = SCOPES
    """Of which images it can be."""

    header_fields: ClassVar[tuple[str, ...]] = ()
    """Names of the whole numbers that a reader must know beside the tensors."""

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name; floating numbers are float32, and whole ones as the file has them. Of a dataclass its tensors."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    @abstractmethod
    def shapes(self, rows: int, coefficients: int) -> dict[str, list[int]]:
        """The shapes that its tensors must have."""

    @property
    @abstractmethod
    def num_coefficients(self) -> int:
        """How many coefficients it is of."""

    @property
    def num_images(self) -> int | None:
        """Of how many single images of each class it is; None if it is of all that were seen."""
        return None

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


@dataclass(frozen=True, eq=False)
class Statistic:
    """What is kept of some ``layers``, by index: a ``summary`` in a ``basis`` (`dfkd_exp.metadata.choices`), of the images of a ``scope``.

    ``grid``: into how many windows each axis of locations is divided, of regions; ``graph``: that in whose basis it is.
    """

    layers: tuple[int, ...]
    summary: Summary
    basis: str = "units"
    scope: str = "class"
    graph: Graph | None = None
    grid: int | None = None

    def __post_init__(self) -> None:
        if self.scope not in self.summary.scopes or self.basis not in self.summary.bases:
            raise ValueError(f"{self.summary.form} of scope {self.scope!r} in basis {self.basis!r}")

    def header(self) -> dict[str, Any]:
        """Its entry in the file."""
        grid = {} if self.grid is None else {"grid": self.grid}
        return {
            "layers": list(self.layers), "basis": self.basis, **grid, "scope": self.scope, "origin": self.summary.origin,
            "summary": self.summary.form, **self.summary.header(),
        }  # fmt: skip

    def view(self, layers: Sequence[Layer]) -> View | None:
        """What it is of, where that is not the units of its layers."""
        layer = layers[self.layers[0]]
        if self.basis == "spectrum":
            return Spectrum(layer)
        if self.basis == "styles":
            return Styles(layer, self.grid or 1)
        grid = 1 if self.basis == "channels" else self.grid
        return None if grid is None else Regions(layer, grid)

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
        return Matchable(self.layers, own, found, self.view(layers), self.scope, self.summary.origin == "data")
