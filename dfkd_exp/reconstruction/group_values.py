"""What a recorded layer holds of groups of images, and its moments in each view that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor

from dfkd_exp.models.regions import Regions
from dfkd_exp.models.view import View
from dfkd_exp.reconstruction.group_moments import group_moments, moments, together
from dfkd_exp.reconstruction.layout import Layout


class GroupValues:
    """``values[G, N, *U]`` of one layer as they lie, its ``layout``, and the ``views`` in which moments will be asked for.

    Where some of these are of single images, the moments in the smallest of their windows are taken, and those in larger ones, and of all
    images together, made of them: to go through a large map is what takes time.
    """

    def __init__(self, values: Tensor, layout: Layout, views: Sequence[View | None] = ()):
        self.values, self._layout = values, layout
        of_images = [view.windows for view in views if view and not view.pools and view.windows and view.windows.tiled]
        self._smallest = max(of_images, key=lambda found: found.num_values) if of_images and layout.axes else None

    def moments(self, view: View | None) -> tuple[Tensor, Tensor]:
        """Means and unbiased variances of groups, ``[G, F]``: of the units, as they lie, or of a ``view``'s values."""
        if view is None:
            return group_moments(self.values)
        if view.windows and (found := self._of_windows(view.windows)):
            mean, variance = (each.flatten(2) for each in found)
            if not view.pools:
                return group_moments(view.of_windows(mean, variance))
            mean, variance = together(mean, variance, (1,))
            count = self.values.shape[1] * view.per_image
            return mean, variance * (count / (count - 1))
        if not view.pools:
            values = view.gathered(self._layout.ordered(self.values.float(), 2).flatten(0, 1))
            return group_moments(values.view(len(self.values), -1, view.num_values))
        channels = self._layout.channel_dim
        if view.basis != "channels" or channels is None:
            # Of units by themselves vectors are longer than of channels that are the fastest to change.
            mean, variance = (self._layout.ordered(own, 1) for own in group_moments(self.values))
            return view.pooled(mean, variance, self.values.shape[1])
        return group_moments(self.values, tuple(dim for dim in range(1, self.values.dim()) if dim != 2 + channels))

    def rows(self, view: View | None) -> Tensor:
        """Units of N images, or channels of so many times as many locations, ``[G, M, F]``."""
        values = self.values.float()
        return values.flatten(2) if view is None else self._layout.rows(values)

    @cached_property
    def _of_smallest(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance in each of the smallest windows of single images, ``[G, N, *shape]``."""
        axes = self._layout.axes
        assert self._smallest is not None
        assert axes is not None
        mean, variance = moments(*self._smallest.blocks(self.values, axes))
        back = [2 + axes.index(axis) for axis in range(len(axes))]
        return mean.permute(0, 1, *back), variance.permute(0, 1, *back)

    def _of_windows(self, windows: Regions) -> tuple[Tensor, Tensor] | None:
        """The same of other windows; None where they are not made of whole ones of the smallest."""
        if self._smallest is None or not (merged := self._smallest.merged(windows)):
            return None
        (means, within), (variances, _) = (merged.blocks(each, range(len(merged.shape))) for each in self._of_smallest)
        return together(means, variances, within)
