"""Means and variances of groups of images, and their gradients: most of what an objective costs beside the teacher."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

HALF = (torch.bfloat16, torch.float16)
Dims = tuple[int, ...]
"""Of a tensor, those over which statistics are taken: images, and their locations where these are put together."""


def group_moments(values: Tensor, dims: Dims = (1,)) -> tuple[Tensor, Tensor]:
    """Means and unbiased variances of groups over ``dims``, which are left out: ``[G, N, *U]`` to ``[G, *U]``, in float32 of values in half
    precision too. Can be differentiated once."""
    mean, variance = moments(values, dims)
    count = values.numel() // mean.numel()
    return mean, variance * (count / (count - 1))


def moments(values: Tensor, dims: Dims) -> tuple[Tensor, Tensor]:
    """The same, but that variances are biased."""
    # What is traced is for a compiler, which does better with what it sees all of.
    rows = None if get_proxy_mode() else _rows_of_channels(values, dims)
    if rows is not None:
        return _ChannelMoments.apply(rows)
    mean, variance = _Moments.apply(values, dims)
    return mean.squeeze(dims), variance.squeeze(dims)


def together(mean: Tensor, variance: Tensor, dims: Dims) -> tuple[Tensor, Tensor]:
    """Means and biased variances of what lies along ``dims``, parts of one size, put together."""
    whole = mean.mean(dims, keepdim=True)
    return whole.squeeze(dims), (variance + (mean - whole).square()).mean(dims)


class _Moments(torch.autograd.Function):
    """Over some dimensions, which stay with a length of 1. On a CPU ``torch.var_mean`` takes five times as long, for want of vector code.
    This has long vectors: the first dimension is summed by itself, and a mean is taken from values along that alone; along the others, of
    which it has few, it is repeated."""

    @staticmethod
    def forward(ctx, values: Tensor, dims: Dims) -> tuple[Tensor, Tensor]:
        wide = _widened(values)
        mean = _mean_over(wide, dims)
        variance = _mean_over((wide - _repeated(mean, values, dims)).square_(), dims)
        ctx.dims = dims
        ctx.save_for_backward(values, mean)
        return mean, variance

    @staticmethod
    def backward(ctx, mean_grad: Tensor, variance_grad: Tensor) -> tuple[Tensor, None]:
        values, mean = ctx.saved_tensors
        slope, constant = (
            _repeated(each, values, ctx.dims)
            for each in _gradient(mean, mean_grad, variance_grad, values.numel() // mean.numel())
        )
        return torch.addcmul(constant, _widened(values), slope).to(values.dtype), None


class _ChannelMoments(torch.autograd.Function):
    """Of channels ``rows[G, M, C]`` in half precision, by what BatchNorm is computed with on a CPU: three to five times as fast, since
    nothing of the values' size is kept in float32."""

    @staticmethod
    def forward(ctx, rows: Tensor) -> tuple[Tensor, Tensor]:
        zero = torch.zeros(rows.shape[-1])  # with running statistics in float32, what is found is in float32 too
        found = [torch.batch_norm_update_stats(group, zero, zero.clone(), 0.0) for group in rows]
        mean, variance = (torch.stack(each) for each in zip(*found, strict=True))
        ctx.save_for_backward(rows, mean)
        return mean, variance

    @staticmethod
    def backward(ctx, mean_grad: Tensor, variance_grad: Tensor) -> Tensor:
        rows, mean = ctx.saved_tensors
        slope, constant = _gradient(mean, mean_grad, variance_grad, rows.shape[1])
        zero, one = torch.zeros_like(mean[0]), torch.ones_like(mean[0])
        found = torch.empty_like(rows)
        for group, weight, bias, out in zip(rows, slope, constant, found, strict=True):
            torch.native_batch_norm(
                group, weight, bias, zero, one, False, 0.0, 0.0, out=(out, zero.new_empty(0), zero.new_empty(0))
            )
        return found


def _gradient(mean: Tensor, mean_grad: Tensor, variance_grad: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Slope and constant of the line in its values that the gradient of mean and variance is."""
    slope = variance_grad * (2 / count)
    return slope, mean_grad / count - slope * mean


def _rows_of_channels(values: Tensor, dims: Dims) -> Tensor | None:
    """Values ``[G, …]`` as ``[G, M, C]`` where ``dims`` are all but one, and they lie so, in half precision and on a CPU; else None."""
    kept = {*range(1, values.dim())} - {*dims}
    if values.device.type != "cpu" or values.dtype not in HALF or len(kept) != 1:
        return None
    last = values.movedim(kept.pop(), -1)
    return last.flatten(1, -2) if last.is_contiguous() else None


def _mean_over(values: Tensor, dims: Dims) -> Tensor:
    first, *others = dims
    mean = values.mean(first, keepdim=True)
    return mean.mean(others, keepdim=True) if others else mean


def _repeated(mean: Tensor, values: Tensor, dims: Dims) -> Tensor:
    """A mean along all of ``dims`` but the first."""
    _, *others = dims
    lengths = [values.shape[dim] if dim in others else size for dim, size in enumerate(mean.shape)]
    return mean.expand(lengths).contiguous()


def _widened(values: Tensor) -> Tensor:
    return values.float() if values.dtype in HALF else values
