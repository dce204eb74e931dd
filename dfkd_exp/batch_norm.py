"""BatchNorm over all processes of a run: PyTorch's own works on GPUs alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNormOverProcesses(LayerSync):
    """Mean and variance are those of a batch, however many processes share it, and of any device and size of share."""

    def apply(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.forward = partial(_normalised, module)  # type: ignore[method-assign]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            vars(module).pop("forward", None)
        return model


class _Sum(torch.autograd.Function):
    """Over the processes; each process's loss depends on what all of them put in."""

    @staticmethod
    def forward(_: object, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: object, *gradients: Tensor) -> Tensor:
        return _Sum.forward(_, gradients[0])


_summed: Callable[[Tensor], Tensor] = _Sum.apply


def _normalised(module: _BatchNorm, values: Tensor) -> Tensor:
    """What `module` makes of ``values[N, C, *]``, its own share, with the statistics of all shares."""
    module._check_input_dim(values)
    running = module.running_mean, module.running_var
    if not (module.training or running[0] is None):
        return F.batch_norm(values, *running, module.weight, module.bias, False, 0.0, module.eps)
    per_channel = values.transpose(0, 1).flatten(1)
    # Sums in half precision lose digits, or overflow.
    per_channel = per_channel.to(torch.promote_types(values.dtype, torch.float32))
    count = _summed(per_channel.new_tensor(float(per_channel.shape[1])))
    mean = _summed(per_channel.sum(1)) / count
    # Not the mean of squares less the squared mean, which loses digits.
    variance = _summed((per_channel - mean[:, None]).square().sum(1)) / count
    if module.training and module.track_running_stats:
        _follow(module, mean.detach(), variance.detach() * count / (count - 1))
    shape = (-1, *[1] * (values.dim() - 2))
    scale = (variance + module.eps).rsqrt()
    scale = scale if module.weight is None else scale * module.weight
    normalised = (values - mean.view(shape)) * scale.view(shape)
    shifted = normalised if module.bias is None else normalised + module.bias.view(shape)
    return shifted.to(values.dtype)


@torch.no_grad()
def _follow(module: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics towards a batch's, as `torch.nn.BatchNorm2d` does."""
    assert module.num_batches_tracked is not None
    module.num_batches_tracked.add_(1)
    share = 1 / module.num_batches_tracked.item() if module.momentum is None else module.momentum
    for running, found in ((module.running_mean, mean), (module.running_var, variance)):
        assert running is not None
        running.lerp_(found.to(running.dtype), share)
