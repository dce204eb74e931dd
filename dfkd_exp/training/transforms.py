"""Random maps of images, of any number of channels, all images of a batch at once: pure functions of images and random numbers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def affine(images: Tensor, uniform: Tensor, outside: Tensor, degrees: float, shift: float, scale: float) -> Tensor:
    """Each of ``images[N, C, H, W]`` turned, scaled and shifted by small amounts, as its row of ``uniform[N, 4]``, random numbers
    from 0 to 1, says; ``outside[C, 1, 1]`` where there is no image."""
    height, width = images.shape[-2:]
    amounts = uniform * 2 - 1
    angle = amounts[:, 0] * math.radians(degrees)
    size = 1 + amounts[:, 1] * scale
    cosine, sine = angle.cos() * size, angle.sin() * size
    # Coordinates run from -1 to 1 along both sides, so a share of the image's size is twice as much, and the sides of an
    # image that is not square have units of different length.
    aspect = width / height
    by_column, by_row, moved = (
        torch.stack(pair, 1)[..., None, None]
        for pair in ((cosine, sine * aspect), (-sine / aspect, cosine), (2 * shift * amounts[:, 2:]).unbind(1))
    )
    # What affine_grid computes, by products of numbers in the place of one small product of matrices per image.
    grid = torch.addcmul(by_row * _centres(height, images)[:, None] + moved, by_column, _centres(width, images))
    return F.grid_sample(images - outside, grid.permute(0, 2, 3, 1), align_corners=False).add_(outside)


def resized_crop(images: Tensor, uniform: Tensor, area: float, proportions: float, flip: bool = True) -> Tensor:
    """A part of each of ``images[N, C, H, W]``, enlarged to the image's size, bilinear, and half of them mirrored left to right, as the
    rows of ``uniform[N, 5]``, random numbers from 0 to 1, say: its area, from ``area`` of the image's to all of it; its height beside its
    width, up to ``proportions`` times the image's or as many times less, evenly in the logarithm; its place, within the image."""
    height, width = images.shape[-2:]
    share = (area + (1 - area) * uniform[:, 0]).sqrt()
    taller = (math.log(proportions) * (uniform[:, 1] - 0.5)).exp()
    sizes = torch.stack([share * taller, share / taller], 1).clamp_max(1)
    middles = (1 - sizes) * (2 * uniform[:, 2:4] - 1)
    if flip:
        sizes = torch.stack([sizes[:, 0], torch.where(uniform[:, 4] < 0.5, -sizes[:, 1], sizes[:, 1])], 1)
    down, across = (
        sizes[:, axis, None] * _centres(count, images) + middles[:, axis, None]
        for axis, count in enumerate((height, width))
    )
    grid = torch.stack([across[:, None, :].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)], 3)
    return F.grid_sample(images, grid.to(images), padding_mode="border", align_corners=False)


def flip_and_crop(
    images: Tensor, uniform: Tensor, outside: Tensor, padding: int, reflect: bool = False, flip: bool = True
) -> Tensor:
    """Each of ``images[N, C, H, W]`` shifted by a whole number of pixels, up to ``padding`` along each side, and half of them mirrored
    left to right, as the rows of ``uniform[N, 3]``, random numbers from 0 to 1, say.

    What comes in from outside is the image's reflection, which must then be larger than the padding, or ``outside[C, 1, 1]``. It is a
    random crop of the padded image: every pixel is one of the image's, to the last bit.
    """
    height, width = images.shape[-2:]
    down, across, mirrored = uniform.unbind(1)
    rows, columns = _cropped(height, padding, down), _cropped(width, padding, across)
    if flip:
        columns = torch.where(mirrored[:, None] < 0.5, columns.flip(1), columns)
    if reflect:
        rows, columns = _reflected(rows, height), _reflected(columns, width)
    taken = _taken(_taken(images, 2, rows[:, None, :, None]), 3, columns[:, None, None, :])
    if reflect:
        return taken
    inside = _within(rows, height)[:, None, :, None] & _within(columns, width)[:, None, None, :]
    return torch.where(inside, taken, outside)


def mixed(images: Tensor, uniform: Tensor, share: float, cut_share: float) -> Tensor:
    """A ``share`` of ``images[N, C, H, W]`` mixed with the image before them, the first with the last, as the rows of ``uniform[N, 5]``,
    random numbers from 0 to 1, say: whether at all, how, how much of the image is left, and where.

    Of those, a ``cut_share`` gets a rectangle of the other, of the image's proportions and cut off at its edges, in the place of its own
    pixels; the rest is the weighted mean of both.
    """
    height, width = images.shape[-2:]
    whether, how, left, row, column = uniform[..., None, None].unbind(1)
    half = (1 - left).sqrt() / 2
    rows = (torch.arange(height, device=images.device)[:, None] + 0.5) / height - row
    columns = (torch.arange(width, device=images.device) + 0.5) / width - column
    cut = ((rows.abs() >= half) | (columns.abs() >= half)).to(images)
    weight = torch.where(how < cut_share, cut, left)
    weight = torch.where(whether < share, weight, 1.0)[:, None]
    return torch.lerp(images.roll(1, 0), images, weight.to(images))


def _centres(count: int, like: Tensor) -> Tensor:
    """The centres of ``count`` pixels along a side that runs from -1 to 1."""
    return (2 * torch.arange(count, device=like.device) + 1) / count - 1


def _cropped(count: int, padding: int, uniform: Tensor) -> Tensor:
    """Per image of ``uniform[N]``, which of a side's pixels its crop has: ``[N, count]``, from ``-padding`` on."""
    first = (uniform * (2 * padding + 1)).long().clamp_(max=2 * padding) - padding
    return first[:, None] + torch.arange(count, device=uniform.device)


def _reflected(index: Tensor, count: int) -> Tensor:
    """Indices outside a side of ``count`` pixels, mirrored into it at its first and last pixel."""
    return (count - 1) - ((count - 1) - index.abs()).abs()


def _within(index: Tensor, count: int) -> Tensor:
    return (index >= 0) & (index < count)


def _taken(images: Tensor, dim: int, index: Tensor) -> Tensor:
    """The rows (``dim`` 2) or columns (3) of each image, indices outside of it taken as those at its edge."""
    shape = list(images.shape)
    shape[dim] = index.shape[dim]
    return images.gather(dim, index.clamp(0, images.shape[dim] - 1).expand(shape))
