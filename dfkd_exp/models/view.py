"""What of a layer's values a statistic is of, where that is not each unit by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from dfkd_exp.models.layers import Layer

if TYPE_CHECKING:
    from dfkd_exp.models.regions import Regions


class View(ABC):
    """F values that are taken from those of one layer, M of each for an image."""

    layer: Layer
    grid: int | None = None
    """Into how many windows each axis of locations is divided, if they are."""
    pools: ClassVar[bool]
    """Whether values are the units' own, put together: their moments then follow from the units' (`pooled`), and they can be drawn
    (`spread`)."""

    kinds: ClassVar[int] = 1
    """Of how many kinds, each with units of its own, the values are: so many equal parts, one after the other."""

    @property
    @abstractmethod
    def basis(self) -> str:
        """Its name in the file (`dfkd_exp.metadata.choices.BASES`)."""

    @property
    @abstractmethod
    def num_values(self) -> int:
        """F."""

    @property
    @abstractmethod
    def per_image(self) -> int:
        """M."""

    @property
    def windows(self) -> Regions | None:
        """The windows of each image of whose means and variances its values are made, if they are of nothing else."""
        return None

    @abstractmethod
    def gathered(self, values: Tensor) -> Tensor:
        """Units ``[N, *shape]`` as ``[N, M, F]``."""

    def spread(self, values: Tensor) -> Tensor:
        """Values ``[N, M, F]`` as units ``[N, U]``, which undoes `gathered`."""
        raise NotImplementedError

    def of_windows(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The values of images, ``[…, F]``, from the mean and biased variance in each of their windows ``[…, R]``; only of what is not
        pooled."""
        raise NotImplementedError

    def pooled(self, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance, ``[N, F]``, from those that units ``[N, *shape]`` have over ``count`` images."""
        raise NotImplementedError
