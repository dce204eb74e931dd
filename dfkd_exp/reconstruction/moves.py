"""Images that are looked at in other places at each step, rolled and mirrored, so that what is found in them hangs on no single pixel.

Source: Yin et al. (2020), DeepInversion, which moves a whole batch as one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfkd_exp.inputs import Shape
from dfkd_exp.reconstruction.settings import Reconstruction


def draw_moves(settings: Reconstruction, shape: Shape, steps: int, generator: torch.Generator) -> Tensor:
    """For each of so many ``steps`` of a group of images of ``shape``, ``[S, A + 1]``: by how many pixels they are rolled along each of the
    A axes of space, from ``-settings.shift`` to it; and 1 where they are mirrored first, as half of them are if ``settings.flip``."""
    axes = len(shape) - 1
    rolled = torch.randint(-settings.shift, settings.shift + 1, (steps, axes), generator=generator)
    mirrored = torch.randint(2, (steps, 1), generator=generator) * settings.flip
    return torch.cat([rolled, mirrored], 1)


def moved(pixels: Tensor, moves: Tensor) -> Tensor:
    """``pixels[G * N, C, *space]``, those of group g mirrored along the last axis and rolled as ``moves[g, A + 1]`` say. These are tensors,
    so that a graph which was traced or recorded for some serves for all."""
    count, space = len(moves), pixels.shape[2:]
    places = moves.new_zeros(count)  # of each looked-at pixel, where it is
    for axis, size in enumerate(space):
        along = (torch.arange(size, device=moves.device) - moves[:, axis, None]) % size
        if axis == len(space) - 1:
            along = torch.where(moves[:, -1:] > 0, size - 1 - along, along)
        places = places[..., None] * size + along.view(count, *[1] * axis, size)
    grouped = pixels.reshape(count, -1, space.numel())
    return grouped.gather(2, places.view(count, 1, -1).expand_as(grouped)).view(pixels.shape)
