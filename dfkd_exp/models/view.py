"""What of a layer's values a statistic is of, where that is not each unit by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from dfkd_exp.models.layers import Layer


class View(ABC):
    """F values that are taken from those of one layer, M of each for an image."""

    layer: Layer
    grid: int | None = None
    """Into how many windows each axis of locations is divided, if they are."""
    pools: ClassVar[bool]
    """Whether values are the units' own, put together: their moments then follow from the units' (`pooled`), and they can be drawn
    (`spread`)."""

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

    @abstractmethod
    def gathered(self, values: Tensor) -> Tensor:
        """Units ``[N, *shape]`` as ``[N, M, F]``."""

    def spread(self, values: Tensor) -> Tensor:
        """Values ``[N, M, F]`` as units ``[N, U]``, which undoes `gathered`."""
        raise NotImplementedError

    def pooled(self, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance, ``[N, F]``, from those that units ``[N, *shape]`` have over ``count`` images."""
        raise NotImplementedError
